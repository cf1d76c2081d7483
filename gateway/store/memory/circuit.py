"""One circuit of the fleet: its state, its probes, and when a trip rule that holds opens it.

`circuit_evidence.py` says whether a trip rule holds. A rule that holds is at first a suspicion: the circuit stays
closed, its version changes, and so every replica reports within one interval of the sync loop. This table says what
comes of it, for each report that arrives while the rule holds. The first line that applies decides.

    situation                                                              decision
    ---------------------------------------------------------------------  --------------------------------------------
    the replica that reports is the only live one                          open at once
    it has failure_threshold consecutive failures itself, and each was     open at once: its network works, and what
    an answer of the upstream (a 5xx)                                      others hear later does not change that
    the rule holds without the failures that had no connection             open when the suspicion is confirmed
    failures without a connection come from two replicas or more           open when the suspicion is confirmed
    they come from one replica, another one was asked to try, and it got   open when the suspicion is confirmed
    no connection either
    they come from one replica, and another one was asked to try and got   the failures until then no longer count, so
    a connection                                                           the rule is applied without them
    they come from one replica, and no other one has tried yet             stay closed, and ask the one that reports to
                                                                           try, unless it is that replica
    no rule holds any more                                                 the suspicion ends

A suspicion is confirmed `CONFIRM` seconds after it began when every live replica has reported since then, and after
`CONFIRM_AT_MOST` seconds in any case. A replica that does not report is not counted as agreeing, but it does not delay
the others for longer than that. The replicas act within 250 ms: 70 ms for `CONFIRM`, one interval of the sync loop, and
a reserve. A replica learns with its next report that it is asked, 60 ms later at most, and its try is bounded in time
(see gateway/wire/client/dial.py).

A probe of a half-open circuit that got no connection does not open the circuit again, because that may be the fault of
the replica that sent it. This replica is cut off: it sees an open circuit for `reset_timeout` seconds, and the other
replicas are asked to try. When every live replica is cut off, the circuit opens again.

A replica that has not reported for `LIVE` seconds is gone, and its probes are given up.

Reports speak of ages. A report that is late on its way makes what it tells look younger than it is. The next report
replaces it and so corrects that; only the latest success of a replica that is gone is kept for good.
"""

import math
from dataclasses import dataclass, field

from gateway.policy.breaker import CLOSED, FORCED_CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, CircuitState
from gateway.store.memory.circuit_evidence import Finding, FleetEvidence, ReplicaEvidence
from gateway.store.port import CircuitReport

LIVE = 2.0
"""Seconds after its last report for which a replica counts as there."""
CONFIRM = 0.07
"""Seconds until a suspicion is confirmed when every replica has reported."""
CONFIRM_AT_MOST = 0.12
"""Seconds until a suspicion is confirmed in any case."""
BEAT = 0.25
"""Seconds between two notes that a replica is there, while its evidence is not wanted."""

FORCED = (FORCED_OPEN, FORCED_CLOSED)


@dataclass(slots=True)
class FleetCircuit:
    """All instants are seconds of the store's clock, and 0 means that there is none.

    `retry_at` is the end of the open time or of the force. `probes` holds for each token when its lease lapses and
    which replica holds it. `words` says for each replica that was asked to try, or that sent a probe, until when it
    counts as cut off; 0 means that it got a connection. `probe_time` is the length of the latest lease, in seconds,
    and `forced_for` the length of the force.
    """

    state: CircuitState
    generation: int
    failures: int = 0
    opened_at: float = 0.0
    retry_at: float = 0.0
    cause: str = ""
    successes: int = 0
    max_probes: int = 1
    forced_for: float = 0.0
    probe_time: float = math.inf
    suspected_at: float | None = None
    evidence: FleetEvidence = field(default_factory=FleetEvidence)
    probes: dict[str, tuple[float, str]] = field(default_factory=dict)
    words: dict[str, float] = field(default_factory=dict)

    def enter(self, state: CircuitState, cause: str, retry_at: float, failures: int, opened_at: float) -> None:
        """Make a transition, which begins a new generation.

        The new generation still knows who is there, so that the first replica to report in it is not taken for the only
        one.
        """
        self.state, self.cause, self.generation = state, cause, self.generation + 1
        self.retry_at, self.failures, self.opened_at = retry_at, failures, opened_at
        self.successes, self.max_probes, self.forced_for, self.probe_time = 0, 1, 0.0, math.inf
        self.suspected_at = None
        self.evidence = self.evidence.presence()
        self.probes, self.words = {}, {}

    def resolve(self, now: float) -> None:
        """Make the transitions that are due at `now`, and give up the probes that have lapsed."""
        if self.state is OPEN and now >= self.retry_at:
            self.enter(HALF_OPEN, "probing", 0.0, self.failures, self.opened_at)
        elif self.state in FORCED and now >= self.retry_at:
            self.enter(CLOSED, "force expired", 0.0, 0, 0.0)
        if self.state is not CLOSED:
            gone = self.evidence.drop_dead(now - LIVE)
            self.probes = {
                token: (lapses, holder)
                for token, (lapses, holder) in self.probes.items()
                if lapses > now and holder not in gone
            }

    def hold_to(self, now: float, reset_timeout: float | None) -> None:
        """Let no instant be later than the setting that it comes from allows: the clock may have been set back.

        `reset_timeout` is that of the replica that asks, None when it did not say.
        """
        self.evidence.hold_to(now)
        self.opened_at = min(self.opened_at, now)
        if self.suspected_at is not None:
            self.suspected_at = min(self.suspected_at, now)
        if self.state in FORCED:
            self.retry_at = min(self.retry_at, now + self.forced_for)
        elif self.state is OPEN and reset_timeout is not None:
            self.retry_at = min(self.retry_at, now + reset_timeout)
        if reset_timeout is not None:
            self.words = {name: min(until, now + reset_timeout) for name, until in self.words.items()}
        self.probes = {
            token: (min(lapses, now + self.probe_time), holder) for token, (lapses, holder) in self.probes.items()
        }

    def retry_after(self, now: float) -> float:
        """As `CircuitSnapshot.retry_after`, in seconds."""
        if self.state is CLOSED:
            if self.suspected_at is None:
                return 0.0
            # A suspicion that waits for a try does not make the replicas read the circuit all the time.
            left = self.suspected_at + CONFIRM - now
            return CONFIRM if left < CONFIRM - CONFIRM_AT_MOST else max(0.01, left)
        if self.state is HALF_OPEN:
            return min(self.probes.values())[0] - now if len(self.probes) >= self.max_probes else 0.0
        return max(0.0, self.retry_at - now)

    def cut_off_until(self, replica: str) -> float:
        """The instant until which a half-open circuit is open for `replica`; 0 when it is not."""
        return self.words.get(replica, 0.0) if self.state is HALF_OPEN else 0.0

    def cut_off(self, replica: str, reset_timeout: float, now: float) -> None:
        """Note that `replica` got no connection while the circuit is half-open."""
        self.words = {name: until for name, until in self.words.items() if until > now}
        self.words[replica] = now + reset_timeout
        if set(self.evidence.replicas) <= set(self.words):
            self.enter(OPEN, "a probe failed", now + reset_timeout, self.failures + 1, now)

    def hear(self, replica: str, report: CircuitReport, now: float) -> bool:
        """Take in a report, and open the circuit when the table at the top says so.

        Returns whether `replica` is asked to try whether it gets a connection.
        """
        current = report.generation == self.generation
        self._note(replica, report, current, now)
        if self.state is HALF_OPEN:
            return self._hear_half_open(replica, report, current, now)
        if self.state is not CLOSED:
            return False
        if current and report.reachable is not None:
            self.words[replica] = 0.0 if report.reachable else now + report.settings.reset_timeout
            if report.reachable:
                self.evidence.reached_at = now
        self.evidence.drop_dead(now - LIVE)
        finding = self.evidence.find(report.settings, now)
        if finding is None:
            self.suspected_at, self.words = None, {}
            self.failures = sum(len(run) for run in self.evidence.counted_runs().values())
            return False
        return self._decide(finding, replica, report, now)

    def denied(self, replica: str) -> bool:
        """As `CircuitSnapshot.denied`."""
        return self.state is CLOSED and self.evidence.denied(replica)

    def _note(self, replica: str, report: CircuitReport, current: bool, now: float) -> None:
        before = self.evidence.replicas.get(replica)
        if self.state is CLOSED or before is None or before.seen <= now - BEAT:
            # What is said about another generation is not evidence, but the replica is there and can be asked.
            heard = current and self.state is CLOSED
            self.evidence.replicas[replica] = ReplicaEvidence.of(report, now) if heard else ReplicaEvidence(now)

    def _hear_half_open(self, replica: str, report: CircuitReport, current: bool, now: float) -> bool:
        if current and report.reachable is not None:
            if report.reachable:
                self.words[replica] = 0.0
            else:
                self.cut_off(replica, report.settings.reset_timeout, now)
        wanted = any(until > now for until in self.words.values())
        return self.state is HALF_OPEN and wanted and replica not in self.words

    def _decide(self, finding: Finding, replica: str, report: CircuitReport, now: float) -> bool:
        settings = report.settings
        alone = set(self.evidence.replicas) <= {replica}
        answered = report.answered and len(self.evidence.runs().get(replica, ())) >= settings.failure_threshold
        second = any(until > now and name not in finding.doubtful for name, until in self.words.items())
        believed = second or not finding.needs_second
        if alone or answered or (believed and self._confirmed(now)):
            self.enter(OPEN, finding.cause, finding.since + settings.reset_timeout, finding.failures, finding.since)
            return False
        if self.suspected_at is None:
            self.suspected_at, self.failures, self.words = now, finding.failures, {}
        return finding.needs_second and replica not in finding.doubtful and replica not in self.words

    def _confirmed(self, now: float) -> bool:
        if self.suspected_at is None:
            return False
        waited = now - self.suspected_at
        heard = all(e.seen > self.suspected_at for e in self.evidence.replicas.values())
        return waited >= CONFIRM_AT_MOST or (heard and waited >= CONFIRM)

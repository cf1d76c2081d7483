"""Circuits shared by the replicas of one process: the reference for `lua/circuit_ops.lua`.

Each replica reports a summary of what it has seen itself; the fleet's verdict is formed from the latest summaries of
the replicas that reported within the last `LIVE` seconds:

    consecutive = failures, of any replica, later than every success of another (and than the replica's own)
    rate        = Σ failures / Σ calls, and still over the limit without any single replica, if the others have
                  minimum_calls between them: one replica with a broken network proves nothing about the upstream

A rule that holds is at first a suspicion. It is confirmed `CONFIRM` seconds later if it still holds and every live
replica has reported since; at the latest after `CONFIRM_AT_MOST`. At once when nobody else is there to ask, and when
one replica has all the consecutive failures that it takes and each was an answer of the upstream itself (a 5xx): then
its network works, and what others hear later, on other paths perhaps, does not unsay it. Confirming
is what other replicas must act on within 250 ms: 70 ms for it, one interval of the sync loop, and slack.

A replica that got no connection may itself be what is cut off, and the silence of a quiet one is no consent. Where a
rule holds only by the failures of one such replica, it takes a witness besides: another that got none either, with its
own failures or when it was asked to try (it learns that it is with its next report, 60 ms later at most, and a try is
bounded: see gateway/wire/dial.py). If one of them can connect, what happened without a connection until then counts
for nothing, except to bear out another replica's own failures of that kind. What that replica was answered counts.

Likewise a probe that got no connection does not reopen the circuit but cuts off its replica, which sees an open circuit
for the reset timeout; the others are asked to try, and the circuit is open again when each is cut off.

Whoever has not reported for `LIVE` seconds is gone, and the leases of its probes are free.

Reports speak of ages, so a report that is late on its way makes what it tells look younger than it is. The next one
puts that right, since it replaces the last; only the latest success of a replica that is gone is kept for good.

A circuit that is unknown begins closed, in a generation taken from the clock in milliseconds: greater than any its
predecessor had, so that a deleted circuit is a new generation for everybody who knew the old one.
"""

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.outcome import Outcome
from gateway.store.port import CircuitReport, CircuitSnapshot, ProbeLease, SyncAnswer

LIVE = 2.0
CONFIRM = 0.07
CONFIRM_AT_MOST = 0.12
BEAT = 0.25
CUT_OFF = "no connection from this replica"

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED = (CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """A report with its ages turned into instants. `success_at`, `unreached_at` 0: none."""

    seen: float
    calls: int = 0
    failures: int = 0
    slow_calls: int = 0
    unreached: int = 0
    success_at: float = 0.0
    unreached_at: float = 0.0
    failures_at: tuple[float, ...] = ()

    def until(self, now: float) -> "_Evidence":
        """As it is where nothing of the past lies in the future."""
        failures_at = tuple(min(at, now) for at in self.failures_at)
        success_at, unreached_at = min(self.success_at, now), min(self.unreached_at, now)
        return replace(self, seen=now, success_at=success_at, unreached_at=unreached_at, failures_at=failures_at)

    @property
    def doubtful(self) -> bool:
        """Whether some of the consecutive failures had no connection."""
        return bool(self.failures_at) and self.unreached_at >= self.failures_at[-1]

    def without_unreached(self) -> "_Evidence":
        """Its window as if the calls without a connection had not been made."""
        return replace(self, calls=self.calls - self.unreached, failures=self.failures - self.unreached, unreached=0)


@dataclass(slots=True)
class _SharedCircuit:
    state: CircuitState
    generation: int
    failures: int = 0
    opened_at: float = 0.0
    retry_at: float = 0.0
    cause: str = ""
    successes: int = 0
    max_probes: int = 1
    forced_for: float = 0.0  # seconds; of a forced state
    probe_time: float = math.inf  # seconds that the latest lease of a probe was given
    suspected_at: float | None = None
    success_at: float = 0.0  # the latest of the replicas that are gone
    reached_at: float = 0.0  # when a replica that was asked could last connect
    evidence: dict[str, _Evidence] = field(default_factory=dict)
    probes: dict[str, tuple[float, str]] = field(default_factory=dict)  # when it lapses, and whose it is
    words: dict[str, float] = field(default_factory=dict)  # until when a replica counts as cut off; 0: it is not

    def enter(self, state: CircuitState, cause: str, retry_at: float, failures: int, opened_at: float) -> None:
        fresh = _SharedCircuit(state, self.generation + 1, failures, opened_at, retry_at, cause)
        # Who is there remains: the first to report in the new generation is not alone for that.
        fresh.evidence = {name: _Evidence(e.seen) for name, e in self.evidence.items()}
        for name in _SharedCircuit.__slots__:
            setattr(self, name, getattr(fresh, name))

    def resolve(self, now: float) -> None:
        """What the clock has brought about."""
        if self.state is OPEN and now >= self.retry_at:
            self.enter(HALF_OPEN, "probing", 0.0, self.failures, self.opened_at)
        elif self.state in FORCED and now >= self.retry_at:
            self.enter(CLOSED, "force expired", 0.0, 0, 0.0)
        if self.state is not CLOSED:
            gone = self._drop_dead(now)
            self.probes = {
                token: (lapses, holder)
                for token, (lapses, holder) in self.probes.items()
                if lapses > now and holder not in gone
            }

    def hold_to(self, now: float, reset_timeout: float | None) -> None:
        """No instant is later than what set it allows: the clock may have been set back. `reset_timeout` is that of
        the replica that asks, None if it did not say."""
        self.evidence = {name: e.until(now) if e.seen > now else e for name, e in self.evidence.items()}
        self.opened_at, self.success_at = min(self.opened_at, now), min(self.success_at, now)
        self.reached_at = min(self.reached_at, now)
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
        if self.state is CLOSED:
            if self.suspected_at is None:
                return 0.0
            # One that waits for a witness is not looked at all the time.
            left = self.suspected_at + CONFIRM - now
            return CONFIRM if left < CONFIRM - CONFIRM_AT_MOST else max(0.01, left)
        if self.state is HALF_OPEN:
            return min(self.probes.values())[0] - now if len(self.probes) >= self.max_probes else 0.0
        return max(0.0, self.retry_at - now)

    def cut_off_until(self, replica: str) -> float:
        return self.words.get(replica, 0.0) if self.state is HALF_OPEN else 0.0

    def cut_off(self, replica: str, reset_timeout: float, now: float) -> None:
        """A half-open circuit hears that `replica` got no connection."""
        self.words = {name: until for name, until in self.words.items() if until > now}
        self.words[replica] = now + reset_timeout
        if set(self.evidence) <= set(self.words):
            self.enter(OPEN, "a probe failed", now + reset_timeout, self.failures + 1, now)

    def hear(self, replica: str, report: CircuitReport, now: float) -> bool:
        """Take in a report, and trip the circuit if that is what the fleet's evidence comes to. Whether the replica is
        asked for its word."""
        current = report.generation == self.generation
        before = self.evidence.get(replica)
        if self.state is CLOSED or before is None or before.seen <= now - BEAT:
            # About another generation it has nothing to say, but it is there to be asked.
            self.evidence[replica] = _evidence(report, now) if current and self.state is CLOSED else _Evidence(now)
        if self.state is HALF_OPEN:
            if current and report.reachable is not None:
                if report.reachable:
                    self.words[replica] = 0.0
                else:
                    self.cut_off(replica, report.settings.reset_timeout, now)
            wanted = any(until > now for until in self.words.values())
            return self.state is HALF_OPEN and wanted and replica not in self.words
        if self.state is not CLOSED:
            return False
        if current and report.reachable is not None:
            self.words[replica] = 0.0 if report.reachable else now + report.settings.reset_timeout
            if report.reachable:
                self.reached_at = now
        self._drop_dead(now)
        return self._judge(replica, report, now)

    def denied(self, replica: str) -> bool:
        """Whether `replica` got no connection and another one has reached the upstream since."""
        own = self.evidence.get(replica)
        if self.state is not CLOSED or own is None or not own.doubtful:
            return False
        return own.unreached_at <= max(self.reached_at, self._success_elsewhere(replica))

    def _judge(self, replica: str, report: CircuitReport, now: float) -> bool:
        settings = report.settings
        evidence = self.evidence
        runs = self._runs()
        # Whose failures had no connection, so that it takes a second one of them; `failing` are those not denied.
        doubtful = {name for name in runs if evidence[name].doubtful}
        failing = {
            name: run
            for name, run in runs.items()
            if name not in doubtful or evidence[name].failures_at[0] > self.reached_at
        }
        failures_at = [at for run in failing.values() for at in run]
        since = now
        if len(failures_at) >= settings.failure_threshold:
            cause = f"{settings.failure_threshold} consecutive failures"
            failures, since = len(failures_at), max(failures_at)
            firm = sum(len(run) for name, run in failing.items() if name not in doubtful) >= settings.failure_threshold
        else:
            doubtful = {name for name, e in evidence.items() if e.unreached}
            # What is denied does not count, and what is doubtful not for certain.
            counted = [e.without_unreached() if e.unreached_at <= self.reached_at else e for e in evidence.values()]
            certain = [e.without_unreached() for e in evidence.values()]
            calls, failures = sum(e.calls for e in counted), sum(e.failures for e in counted)
            slow_rate = math.inf if settings.slow_call_threshold is None else settings.slow_call_rate_threshold
            if _rate_holds(counted, _failed, settings.failure_rate_threshold, settings.minimum_calls):
                cause = f"{failures} of the last {calls} calls failed"
                firm = _rate_holds(certain, _failed, settings.failure_rate_threshold, settings.minimum_calls)
            elif _rate_holds(counted, _slow, slow_rate, settings.minimum_calls):
                cause = f"{sum(e.slow_calls for e in counted)} of the last {calls} calls were slow"
                firm = _rate_holds(certain, _slow, slow_rate, settings.minimum_calls)
            else:
                self.suspected_at, self.failures, self.words = None, len(failures_at), {}
                return False

        alone = set(evidence) <= {replica}
        certainly = report.answered and len(runs.get(replica, ())) >= settings.failure_threshold
        lone = len(doubtful) == 1 and not firm
        witnessed = not lone or any(until > now and name not in doubtful for name, until in self.words.items())
        if alone or certainly or (witnessed and self._confirmed(now)):
            since = min(since, now)
            self.enter(OPEN, cause, since + settings.reset_timeout, failures, since)
            return False
        if self.suspected_at is None:
            self.suspected_at, self.failures, self.words = now, failures, {}
        return lone and replica not in doubtful and replica not in self.words

    def _runs(self) -> dict[str, list[float]]:
        """When each of the consecutive failures of the fleet happened, by replica. A replica's failures are later than
        its own success by construction; against those of others, instants decide."""
        found = {}
        for name, own in self.evidence.items():
            success_at = self._success_elsewhere(name)
            run = [at for at in own.failures_at if at > success_at]
            if run:
                found[name] = run
        return found

    def _success_elsewhere(self, replica: str) -> float:
        return max([self.success_at, *(e.success_at for other, e in self.evidence.items() if other != replica)])

    def _confirmed(self, now: float) -> bool:
        if self.suspected_at is None:
            return False
        waited = now - self.suspected_at
        heard = all(e.seen > self.suspected_at for e in self.evidence.values())
        return waited >= CONFIRM_AT_MOST or (heard and waited >= CONFIRM)

    def _drop_dead(self, now: float) -> list[str]:
        gone = [name for name, e in self.evidence.items() if e.seen <= now - LIVE]
        for name in gone:
            self.success_at = max(self.success_at, self.evidence.pop(name).success_at)
        return gone


def _evidence(report: CircuitReport, now: float) -> _Evidence:
    return _Evidence(
        now,
        report.calls,
        report.failures,
        report.slow_calls,
        report.unreached,
        0.0 if report.success_age is None else now - report.success_age,
        0.0 if report.unreached_age is None else now - report.unreached_age,
        tuple(now - age for age in report.failure_ages),
    )


def _failed(evidence: _Evidence) -> int:
    return evidence.failures


def _slow(evidence: _Evidence) -> int:
    return evidence.slow_calls


def _rate_holds(evidence: Sequence[_Evidence], count: Callable[[_Evidence], int], limit: float, minimum: int) -> bool:
    total = sum(count(e) for e in evidence)
    calls = sum(e.calls for e in evidence)
    if calls < minimum or total / calls < limit:
        return False
    rest = ((calls - e.calls, total - count(e)) for e in evidence)
    return not any(others >= minimum and bad / others < limit for others, bad in rest)


class CircuitTable:
    """What several `MemoryCircuits` share, as replicas share a Redis."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.circuits: dict[str, _SharedCircuit] = {}
        self.seen: dict[str, float] = {}
        self.version = 0
        self.epoch = 1

    def find(self, upstream: str, reset_timeout: float | None = None) -> _SharedCircuit | None:
        circuit = self.circuits.get(upstream)
        if circuit is not None:
            now = self.clock()
            circuit.hold_to(now, reset_timeout)
            circuit.resolve(now)
        return circuit

    def create(self, upstream: str) -> _SharedCircuit:
        circuit = self.circuits[upstream] = _SharedCircuit(CLOSED, int(self.clock() * 1000))
        return circuit

    def snapshot(
        self,
        upstream: str,
        circuit: _SharedCircuit | None,
        replica: str,
        known: bool = True,
        asked: bool = False,
        denied: bool = False,
    ) -> CircuitSnapshot:
        """The circuit as `replica` is to see it."""
        if circuit is None:
            return CircuitSnapshot(upstream, False, CLOSED, 0, 0, 0.0, "")
        now = self.clock()
        state, retry_after, cause = circuit.state, circuit.retry_after(now), circuit.cause
        until = circuit.cut_off_until(replica)
        if until > now:
            state, retry_after, cause = OPEN, until - now, CUT_OFF
        generation, failures = circuit.generation, circuit.failures
        return CircuitSnapshot(upstream, known, state, generation, failures, retry_after, cause, asked, denied)


class MemoryCircuits:
    """The circuit part of the store port, for one replica. Nothing here awaits, so every operation is atomic."""

    def __init__(self, table: CircuitTable, replica: str) -> None:
        self._table = table
        self._replica = replica
        self._tokens = itertools.count(1)

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer:
        table = self._table
        now = table.clock()
        table.seen[self._replica] = now
        table.seen = {replica: min(seen, now) for replica, seen in table.seen.items() if seen > now - LIVE}
        version = table.version
        snapshots = []
        for report in reports:
            before = self._mark(report.upstream)
            circuit = table.find(report.upstream, report.settings.reset_timeout)
            known = circuit is not None
            circuit = circuit or table.create(report.upstream)
            asked = circuit.hear(self._replica, report, now)
            self._note(report.upstream, before)
            denied = circuit.denied(self._replica)
            snapshots.append(table.snapshot(report.upstream, circuit, self._replica, known, asked, denied))
        return SyncAnswer(len(table.seen), tuple(snapshots), version, table.epoch)

    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot:
        before = self._mark(upstream)
        circuit = self._table.find(upstream)
        self._note(upstream, before)
        if circuit is not None and circuit.state is HALF_OPEN:
            circuit.max_probes = settings.half_open_max_probes
            circuit.probe_time = lease_time
            now = self._table.clock()
            if len(circuit.probes) < circuit.max_probes and circuit.cut_off_until(self._replica) <= now:
                token = f"{self._replica}/{next(self._tokens)}"
                circuit.probes[token] = now + lease_time, self._replica
                return ProbeLease(upstream, circuit.generation, token)
        return self._table.snapshot(upstream, circuit, self._replica)

    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot:
        before = self._mark(lease.upstream)
        circuit = self._table.find(lease.upstream, settings.reset_timeout)
        if circuit is not None and circuit.state is HALF_OPEN and circuit.generation == lease.generation:
            held = circuit.probes.pop(lease.token, None) is not None
            if held and outcome is Outcome.SUCCESS:
                circuit.successes += 1
                if circuit.successes >= settings.half_open_success_threshold:
                    circuit.enter(CLOSED, f"{circuit.successes} probes succeeded", 0.0, 0, 0.0)
            elif held and outcome is Outcome.FAILURE:
                now = self._table.clock()
                if reached:
                    circuit.enter(OPEN, "a probe failed", now + settings.reset_timeout, circuit.failures + 1, now)
                else:
                    circuit.cut_off(self._replica, settings.reset_timeout, now)
        self._note(lease.upstream, before)
        return self._table.snapshot(lease.upstream, circuit, self._replica)

    async def force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> CircuitSnapshot:
        now = self._table.clock()
        before = self._mark(upstream)
        circuit = self._table.find(upstream)
        known = circuit is not None
        if state is not None:
            if circuit is None:
                circuit = self._table.create(upstream)
                circuit.generation -= 1
            opened_at = now if state is CircuitState.FORCED_OPEN else 0.0
            circuit.enter(state, cause, now + duration, circuit.failures, opened_at)
            circuit.forced_for = duration
        elif circuit is not None and circuit.state in FORCED:
            circuit.enter(CLOSED, "force released", 0.0, 0, 0.0)
        self._note(upstream, before)
        return self._table.snapshot(upstream, circuit, self._replica, known)

    async def reset(self, upstream: str) -> None:
        self._table.circuits.pop(upstream, None)
        self._table.version += 1

    async def leave(self) -> None:
        """This replica stops: it no longer counts as alive."""
        self._table.seen.pop(self._replica, None)

    def _mark(self, upstream: str) -> tuple[int, bool] | None:
        circuit = self._table.circuits.get(upstream)
        return None if circuit is None else (circuit.generation, circuit.suspected_at is None)

    def _note(self, upstream: str, before: tuple[int, bool] | None) -> None:
        """Tell the fleet when a circuit has changed, or has come under suspicion."""
        after = self._mark(upstream)
        if after != before and (before is None or after is None or after[0] != before[0] or before[1]):
            self._table.version += 1

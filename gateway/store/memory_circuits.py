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

Reports speak of ages, so a report that is late on its way makes what it tells look younger than it is. The next one
puts that right, since it replaces the last; only the latest success of a replica that is gone is kept for good.

A circuit that is unknown begins closed, in a generation taken from the clock in milliseconds: greater than any its
predecessor had, so that a deleted circuit is a new generation for everybody who knew the old one.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.outcome import Outcome
from gateway.store.port import CircuitReport, CircuitSnapshot, ProbeLease, SyncAnswer

LIVE = 2.0
CONFIRM = 0.07
CONFIRM_AT_MOST = 0.12

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED = (CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED)


@dataclass(frozen=True, slots=True)
class _Evidence:
    """A report with its ages turned into instants. `success_at` 0: none."""

    seen: float
    calls: int
    failures: int
    slow_calls: int
    success_at: float
    failures_at: tuple[float, ...]


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
    suspected_at: float | None = None
    success_at: float = 0.0  # the latest of the replicas that are gone
    evidence: dict[str, _Evidence] = field(default_factory=dict)
    probes: dict[str, float] = field(default_factory=dict)

    def enter(self, state: CircuitState, cause: str, retry_at: float, failures: int, opened_at: float) -> None:
        fresh = _SharedCircuit(state, self.generation + 1, failures, opened_at, retry_at, cause)
        for name in _SharedCircuit.__slots__:
            setattr(self, name, getattr(fresh, name))

    def resolve(self, now: float) -> None:
        """What the clock has brought about."""
        if self.state is OPEN and now >= self.retry_at:
            self.enter(HALF_OPEN, "probing", 0.0, self.failures, self.opened_at)
        elif self.state in FORCED and now >= self.retry_at:
            self.enter(CLOSED, "force expired", 0.0, 0, 0.0)
        self.probes = {token: lapses for token, lapses in self.probes.items() if lapses > now}

    def retry_after(self, now: float) -> float:
        if self.state is CLOSED:
            return 0.0 if self.suspected_at is None else max(0.01, self.suspected_at + CONFIRM - now)
        if self.state is HALF_OPEN:
            return min(self.probes.values()) - now if len(self.probes) >= self.max_probes else 0.0
        return max(0.0, self.retry_at - now)

    def hear(self, replica: str, report: CircuitReport, now: float) -> None:
        """Take in a report, and trip the circuit if that is what the fleet's evidence comes to."""
        if self.state is not CLOSED:
            return
        if report.generation == self.generation:
            success_at = 0.0 if report.success_age is None else now - report.success_age
            self.evidence[replica] = _Evidence(
                now,
                report.calls,
                report.failures,
                report.slow_calls,
                success_at,
                tuple(now - age for age in report.failure_ages),
            )
        else:
            # Nothing to say about this generation yet, but there to be asked.
            self.evidence[replica] = _Evidence(now, 0, 0, 0, 0.0, ())
        for name in [name for name, e in self.evidence.items() if e.seen <= now - LIVE]:
            self.success_at = max(self.success_at, self.evidence.pop(name).success_at)

        settings = report.settings
        failures_at = self._consecutive()
        calls = sum(e.calls for e in self.evidence.values())
        failed = sum(e.failures for e in self.evidence.values())
        since = now
        if len(failures_at) >= settings.failure_threshold:
            cause = f"{settings.failure_threshold} consecutive failures"
            failures, since = len(failures_at), max(failures_at)
        elif self._rate_holds(lambda e: e.failures, settings.failure_rate_threshold, settings.minimum_calls):
            cause, failures = f"{failed} of the last {calls} calls failed", failed
        elif settings.slow_call_threshold is not None and self._rate_holds(
            lambda e: e.slow_calls, settings.slow_call_rate_threshold, settings.minimum_calls
        ):
            slow = sum(e.slow_calls for e in self.evidence.values())
            cause, failures = f"{slow} of the last {calls} calls were slow", failed
        else:
            self.suspected_at, self.failures = None, len(failures_at)
            return

        certain = report.answered and len(self._consecutive(replica)) >= settings.failure_threshold
        if certain or self._confirmed(replica, now):
            self.enter(OPEN, cause, since + settings.reset_timeout, failures, since)
        elif self.suspected_at is None:
            self.suspected_at, self.failures = now, failures

    def _consecutive(self, only: str | None = None) -> list[float]:
        """When each of the consecutive failures of the fleet, or of one replica, happened. A replica's failures are
        later than its own success by construction; against those of others, instants decide."""
        found: list[float] = []
        for name, own in self.evidence.items():
            if only is not None and name != only:
                continue
            success_at = max([self.success_at, *(e.success_at for other, e in self.evidence.items() if other != name)])
            found += [at for at in own.failures_at if at > success_at]
        return found

    def _rate_holds(self, count: Callable[[_Evidence], int], limit: float, minimum: int) -> bool:
        total = sum(count(e) for e in self.evidence.values())
        calls = sum(e.calls for e in self.evidence.values())
        if calls < minimum or total / calls < limit:
            return False
        rest = ((calls - e.calls, total - count(e)) for e in self.evidence.values())
        return not any(others >= minimum and bad / others < limit for others, bad in rest)

    def _confirmed(self, replica: str, now: float) -> bool:
        if set(self.evidence) <= {replica}:
            return True
        if self.suspected_at is None:
            return False
        waited = now - self.suspected_at
        heard = all(e.seen > self.suspected_at for e in self.evidence.values())
        return waited >= CONFIRM_AT_MOST or (heard and waited >= CONFIRM)


class CircuitTable:
    """What several `MemoryCircuits` share, as replicas share a Redis."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.circuits: dict[str, _SharedCircuit] = {}
        self.seen: dict[str, float] = {}
        self.version = 0
        self.epoch = 1

    def find(self, upstream: str) -> _SharedCircuit | None:
        circuit = self.circuits.get(upstream)
        if circuit is not None:
            circuit.resolve(self.clock())
        return circuit

    def create(self, upstream: str) -> _SharedCircuit:
        circuit = self.circuits[upstream] = _SharedCircuit(CLOSED, int(self.clock() * 1000))
        return circuit

    def snapshot(self, upstream: str, circuit: _SharedCircuit | None, known: bool = True) -> CircuitSnapshot:
        if circuit is None:
            return CircuitSnapshot(upstream, False, CLOSED, 0, 0, 0.0, "")
        retry_after = circuit.retry_after(self.clock())
        return CircuitSnapshot(
            upstream, known, circuit.state, circuit.generation, circuit.failures, retry_after, circuit.cause
        )


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
        table.seen = {replica: seen for replica, seen in table.seen.items() if seen > now - LIVE}
        version = table.version
        snapshots = []
        for report in reports:
            before = self._mark(report.upstream)
            circuit = table.find(report.upstream)
            known = circuit is not None
            circuit = circuit or table.create(report.upstream)
            circuit.hear(self._replica, report, now)
            self._note(report.upstream, before)
            snapshots.append(table.snapshot(report.upstream, circuit, known))
        return SyncAnswer(len(table.seen), tuple(snapshots), version, table.epoch)

    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot:
        before = self._mark(upstream)
        circuit = self._table.find(upstream)
        self._note(upstream, before)
        if circuit is not None and circuit.state is HALF_OPEN:
            circuit.max_probes = settings.half_open_max_probes
            if len(circuit.probes) < circuit.max_probes:
                token = f"{self._replica}/{next(self._tokens)}"
                circuit.probes[token] = self._table.clock() + lease_time
                return ProbeLease(upstream, circuit.generation, token)
        return self._table.snapshot(upstream, circuit)

    async def settle_probe(self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome) -> CircuitSnapshot:
        before = self._mark(lease.upstream)
        circuit = self._table.find(lease.upstream)
        if circuit is not None and circuit.state is HALF_OPEN and circuit.generation == lease.generation:
            held = circuit.probes.pop(lease.token, None) is not None
            if held and outcome is Outcome.SUCCESS:
                circuit.successes += 1
                if circuit.successes >= settings.half_open_success_threshold:
                    circuit.enter(CLOSED, f"{circuit.successes} probes succeeded", 0.0, 0, 0.0)
            elif held and outcome is Outcome.FAILURE:
                now = self._table.clock()
                circuit.enter(OPEN, "a probe failed", now + settings.reset_timeout, circuit.failures + 1, now)
        self._note(lease.upstream, before)
        return self._table.snapshot(lease.upstream, circuit)

    async def force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> CircuitSnapshot:
        now = self._table.clock()
        before = self._mark(upstream)
        circuit = self._table.find(upstream)
        known = circuit is not None
        if state is not None:
            circuit = circuit or self._table.create(upstream)
            opened_at = now if state is CircuitState.FORCED_OPEN else 0.0
            circuit.enter(state, cause, now + duration, circuit.failures, opened_at)
        elif circuit is not None and circuit.state in FORCED:
            circuit.enter(CLOSED, "force released", 0.0, 0, 0.0)
        self._note(upstream, before)
        return self._table.snapshot(upstream, circuit, known)

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

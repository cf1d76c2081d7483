"""Circuits shared by the replicas of one process: the reference for `lua/circuit_ops/`.

Each replica reports a summary of what it has seen itself. The fleet's verdict is formed from the latest summaries of
the replicas that are there: `circuit_evidence.py` applies the trip rules to them, and `circuit.py` says when a rule
that holds opens the circuit.

A circuit that is unknown begins closed. Its generation is taken from the clock in milliseconds, so it is greater than
any that the circuit had before, and a deleted circuit is a new generation for every replica that knew the old one.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import Final

from gateway.policy.breaker import CLOSED, FORCED_OPEN, HALF_OPEN, OPEN, BreakerSettings, CircuitState
from gateway.policy.outcome import Outcome
from gateway.store.memory.circuit import FORCED, LIVE, FleetCircuit
from gateway.store.port import CircuitReport, CircuitSnapshot, ProbeLease, SyncAnswer

_KEPT: Final = 120.0
_CLEAN_EVERY: Final = 30.0
"""Seconds, both."""

CUT_OFF = "no connection from this replica"
"""The cause that a replica is shown while a half-open circuit is open to it alone."""


class CircuitTable:
    """What several `MemoryCircuits` share, as replicas share a Redis. `clock` gives seconds.

    `circuits` are the circuits by upstream. `seen` says when each replica was last heard of. `version` and `epoch` are
    those of `SyncAnswer`. `kept_until` says until when a circuit is kept without a report: longer than anything in it
    can matter, as in Redis.
    """

    def __init__(self, clock: Callable[[], float] = time.time, epoch: int = 1) -> None:
        self.clock = clock
        self.circuits: dict[str, FleetCircuit] = {}
        self.seen: dict[str, float] = {}
        self.kept_until: dict[str, float] = {}
        self._clean_at = 0.0
        self.version = 0
        self.epoch = epoch

    def find(self, upstream: str, reset_timeout: float | None = None) -> FleetCircuit | None:
        """The circuit as it is now, None when it is unknown. `reset_timeout` is that of the replica that asks."""
        circuit = self.circuits.get(upstream)
        if circuit is not None:
            now = self.clock()
            circuit.hold_to(now, reset_timeout)
            circuit.resolve(now)
        return circuit

    def keep(self, upstream: str, seconds: float) -> None:
        """Keep the circuit for that long from now on at least. Now and then, forget those that are not kept."""
        now = self.clock()
        self.kept_until[upstream] = max(self.kept_until.get(upstream, 0.0), now + seconds)
        if now >= self._clean_at or self._clean_at > now + _CLEAN_EVERY:
            self._clean_at = now + _CLEAN_EVERY
            self.kept_until = {name: until for name, until in self.kept_until.items() if until > now}
            self.circuits = {name: each for name, each in self.circuits.items() if name in self.kept_until}

    def create(self, upstream: str) -> FleetCircuit:
        """A new, closed circuit in place of any that is there."""
        circuit = self.circuits[upstream] = FleetCircuit(CLOSED, int(self.clock() * 1000))
        return circuit

    def snapshot(
        self,
        upstream: str,
        circuit: FleetCircuit | None,
        replica: str,
        known: bool = True,
        asked: bool = False,
        denied: bool = False,
    ) -> CircuitSnapshot:
        """The circuit as `replica` is to see it. The flags are those of `CircuitSnapshot`."""
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
        """See `Store.sync`."""
        table = self._table
        now = table.clock()
        table.seen[self._replica] = now
        table.seen = {replica: min(seen, now) for replica, seen in table.seen.items() if seen > now - LIVE}
        version = table.version
        snapshots = []
        for report in reports:
            before = self._mark(report.upstream)
            settings = report.settings
            table.keep(report.upstream, _KEPT + 2 * settings.reset_timeout + settings.window_seconds)
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
        """See `Store.lease_probe`."""
        return self.lease_named(f"{self._replica}/{next(self._tokens)}", upstream, settings, lease_time)

    def lease_named(
        self, token: str, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot:
        """The same with a token that the replica has chosen, so that it can give the lease back without an answer."""
        before = self._mark(upstream)
        circuit = self._table.find(upstream)
        self._note(upstream, before)
        if circuit is not None and circuit.state is HALF_OPEN:
            circuit.max_probes = settings.half_open_max_probes
            circuit.probe_time = lease_time
            now = self._table.clock()
            if len(circuit.probes) < circuit.max_probes and circuit.cut_off_until(self._replica) <= now:
                circuit.probes[token] = now + lease_time, self._replica
                return ProbeLease(upstream, circuit.generation, token)
        return self._table.snapshot(upstream, circuit, self._replica)

    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot:
        """See `Store.settle_probe`."""
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

    def give_back(self, upstream: str, token: str) -> None:
        """End the lease of a probe that nobody will send, if there is one of this name."""
        circuit = self._table.find(upstream)
        if circuit is not None:
            circuit.probes.pop(token, None)

    async def force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> CircuitSnapshot:
        """See `Store.force`."""
        now = self._table.clock()
        before = self._mark(upstream)
        circuit = self._table.find(upstream)
        known = circuit is not None
        if state is not None:
            if circuit is None:
                circuit = self._table.create(upstream)
                circuit.generation -= 1  # the transition that follows takes the number that was meant for it
            opened_at = now if state is FORCED_OPEN else 0.0
            circuit.enter(state, cause, now + duration, circuit.failures, opened_at)
            self._table.keep(upstream, _KEPT + duration)
            circuit.forced_for = duration
        elif circuit is not None and circuit.state in FORCED:
            circuit.enter(CLOSED, "force released", 0.0, 0, 0.0)
        self._note(upstream, before)
        return self._table.snapshot(upstream, circuit, self._replica, known)

    async def reset(self, upstream: str) -> None:
        """See `Store.reset`."""
        self._table.circuits.pop(upstream, None)
        self._table.version += 1

    async def leave(self) -> None:
        """Say that this replica stops, so that it no longer counts as alive."""
        self._table.seen.pop(self._replica, None)

    def _mark(self, upstream: str) -> tuple[int, bool] | None:
        """What is compared before and after a call: the generation, and whether the circuit is free of suspicion."""
        circuit = self._table.circuits.get(upstream)
        return None if circuit is None else (circuit.generation, circuit.suspected_at is None)

    def _note(self, upstream: str, before: tuple[int, bool] | None) -> None:
        """Tell the fleet when the circuit has changed since `_mark`, or has come under suspicion."""
        after = self._mark(upstream)
        if after != before and (before is None or after is None or after[0] != before[0] or before[1]):
            self._table.version += 1

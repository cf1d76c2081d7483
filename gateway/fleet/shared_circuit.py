"""A replica's view of a circuit that belongs to the fleet.

    fleet not closed, link up     the fleet decides: the breaker mirrors its verdict, a probe needs a lease of the store
    fleet closed, link up         the breaker decides for this replica alone, and its evidence goes to the fleet
    link down for a second        the breaker goes on from wherever it is

When another replica has no connection to the upstream, this one is asked whether it can make one, tries once (`dial`)
and says so in its next report, at once.

So the state to act on is always the breaker's, and a closed circuit costs one field to read. A replica whose own
network is broken is protected by its own breaker without the fleet following it.

Whenever the fleet's generation changes, the replica takes over its state and forgets its own evidence: that is how a
trip, a recovery, a force and an operator's DEL arrive. The exception is a store that lost its memory while the link
was down: what it then knows of a circuit is nothing, not "closed", and the replica keeps its own state and evidence.
Answers may overtake each other, so one of an earlier generation is ignored.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Protocol

from gateway.fleet.circuit import FORCED, Clock, LocalCircuit, TransitionHook, unnoticed
from gateway.fleet.link import Link
from gateway.policy.breaker import (
    PROBE_PATIENCE,
    UNCOUNTED,
    BreakerSettings,
    CircuitOpen,
    CircuitState,
    Permit,
    probe_wait,
)
from gateway.policy.outcome import Outcome
from gateway.store.port import CircuitReport, CircuitSnapshot, ProbeLease, StoreUnavailable, SyncAnswer

logger = logging.getLogger("gateway.circuit")

HALF_OPEN_READ_EVERY = 0.05
"""Seconds until a place for a probe that another replica has freed is seen here."""
READ_EVERY = 0.5
"""Seconds for a closed circuit: an operator's DEL is noticed within it, and evidence stays fresh (2 s and it is gone).
Successes are not hurried: a suspicion changes the store's version, and then every replica says what it has seen."""

GRACE = 1.0
"""Seconds for which the fleet's verdict still binds after the link was lost. Most losses are a hiccup of milliseconds;
a replica that sent probes of its own in each of them would break the promise of so many at a time in the fleet."""

DELETED = "deleted from the store, or reset by another replica"
"""The cause where the fleet's circuit has begun anew. A reset deletes it too: nothing is left to tell the two apart."""

HERE_ONLY = "no connection from this replica, though another one can connect"
"""The cause where this replica alone holds the circuit open, once the others have been asked."""

CLOSED, OPEN, HALF_OPEN = CircuitState.CLOSED, CircuitState.OPEN, CircuitState.HALF_OPEN
FORCED_OPEN, FORCED_CLOSED = CircuitState.FORCED_OPEN, CircuitState.FORCED_CLOSED


class CircuitStore(Protocol):
    """The part of the store port that is about circuits."""

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer: ...

    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot: ...

    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot: ...

    async def force(
        self, upstream: str, state: CircuitState | None, duration: float, cause: str
    ) -> CircuitSnapshot: ...

    async def reset(self, upstream: str) -> None: ...


class _FleetProbe(Permit):
    """A probe that the fleet has leased to this replica."""

    __slots__ = ("_circuit", "_lease")
    probe = True

    def __init__(self, circuit: "SharedCircuit", lease: ProbeLease) -> None:
        self._circuit: SharedCircuit | None = circuit
        self._lease = lease

    def release(
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        circuit, self._circuit = self._circuit, None
        if circuit is not None:
            circuit.settle(self._lease, outcome, elapsed, reached)

    def left(self, elapsed: float, now: float) -> None:
        circuit = self._circuit
        slow = circuit is not None and circuit.is_slow(elapsed)
        self.release(Outcome.FAILURE if slow else Outcome.IGNORED, elapsed, now)


class SharedCircuit(LocalCircuit):
    """One replica's view of a circuit of the fleet; `apply` is called by the sync loop with what the store says."""

    __slots__ = (
        "_dial", "_dialling", "_epoch", "_failures", "_fleet", "_generation", "_leasing", "_link", "_losses",
        "_probe_time", "_reported_failure", "_settings", "_spawn", "_store", "_synced_at", "_word", "look_at",
    )  # fmt: skip

    def __init__(
        self,
        upstream: str,
        settings: BreakerSettings,
        *,
        store: CircuitStore,
        link: Link,
        dial: Callable[[], Awaitable[bool | None]],
        spawn: Callable[[Coroutine[Any, Any, None]], object],
        clock: Clock = time.monotonic,
        probe_time: float = 60.0,
        on_transition: TransitionHook = unnoticed,
    ) -> None:
        super().__init__(upstream, settings, clock=clock, probe_time=probe_time, on_transition=on_transition)
        self._settings = settings
        self._store = store
        self._link = link
        self._dial = dial
        self._dialling = False
        self._word: tuple[int, bool] | None = None  # of which generation, and whether a connection came about
        self._spawn = spawn
        self._probe_time = probe_time
        self._fleet = CLOSED
        self._generation = 0
        self._failures = 0
        self._epoch = 0
        self._losses = 0
        self._leasing = False
        self._synced_at = float("-inf")
        self._reported_failure: float | None = None
        self.look_at = float("inf")

    def try_acquire(self, now: float) -> Permit | CircuitOpen | None:  # HOT
        breaker = self.breaker
        permit = breaker.permit
        if permit is not None:
            return permit
        if self._fleet is OPEN and self._link.up and now < breaker.until:
            # As below, for the state that refuses most.
            return CircuitOpen(breaker.until - now, breaker.cause)
        return self._try_unclosed(now)

    def acquire(self, resume: Callable[[Permit | CircuitOpen], None]) -> None:
        verdict = self.try_acquire(self._clock())
        if verdict is None:
            self._leasing = True
            self._spawn(self._ask(resume))
        else:
            asyncio.get_running_loop().call_soon(resume, verdict)

    @property
    def state(self) -> CircuitState:
        return self.breaker.state if self._governed() else self.breaker.current_state()

    @property
    def generation(self) -> int:
        """The fleet's; 0 until it is known."""
        return self._generation

    @property
    def failures(self) -> int:
        return self._failures if self._governed() else max(self._failures, self.breaker.failures)

    def retry_after(self, now: float) -> float:
        if not self._governed():
            return super().retry_after(now)
        return 0.0 if self._fleet is FORCED_CLOSED else self._mirrored_wait(now)

    def forced_for(self, now: float) -> float:
        if not self._governed():
            return super().forced_for(now)
        return self._mirrored_wait(now) if self._fleet in FORCED else 0.0

    def _governed(self) -> bool:
        """Whether the fleet decides. Then its clock does too: no time transition of the mirroring breaker is resolved
        here, or the two would contradict each other for the milliseconds they differ."""
        link = self._link
        return self._fleet is not CLOSED and (link.up or self._clock() - link.since < GRACE)

    def _mirrored_wait(self, now: float) -> float:
        wait = max(0.0, self.breaker.until - now)
        return probe_wait(wait, self._probe_time) if self._fleet is HALF_OPEN else wait

    def _try_unclosed(self, now: float) -> Permit | CircuitOpen | None:
        breaker = self.breaker
        if not self._governed():
            return breaker.try_acquire(now)
        if self._fleet is FORCED_CLOSED:
            return UNCOUNTED
        wait = self._mirrored_wait(now)
        if wait > 0.0:
            return CircuitOpen(wait, breaker.cause)
        if self._leasing or self._fleet is FORCED_OPEN or not self._link.up:
            return CircuitOpen(PROBE_PATIENCE, breaker.cause)
        return None

    async def _ask(self, resume: Callable[[Permit | CircuitOpen], None]) -> None:
        verdict: Permit | CircuitOpen | None = None
        try:
            answer = await self._store.lease_probe(self.upstream, self._settings, self._probe_time)
            if isinstance(answer, ProbeLease):
                verdict = self._leased(answer)
            else:
                self.follow(answer)
        except StoreUnavailable as exc:
            self._link.lost(exc)
        except Exception:
            logger.exception("Asking for a probe of upstream %s failed", self.upstream)
        finally:
            # With the lease still marked as asked for, so that the answer to "may I?" cannot be "ask again".
            verdict = verdict or self.try_acquire(self._clock()) or CircuitOpen(PROBE_PATIENCE, self.breaker.cause)
            self._leasing = False
            resume(verdict)

    def _leased(self, lease: ProbeLease) -> Permit | None:
        probe = _FleetProbe(self, lease)
        now = self._clock()
        if lease.generation < self._generation:
            probe.release(Outcome.IGNORED, 0.0, now)
            return None
        if lease.generation > self._generation or self.breaker.state is not HALF_OPEN:
            granted = CircuitSnapshot(self.upstream, True, HALF_OPEN, lease.generation, self._failures, 0.0, "probing")
            self._adopt(granted, now)
        return probe

    def is_slow(self, elapsed: float) -> bool:
        """Whether a call of so many seconds is a slow one."""
        return elapsed >= self.breaker.history.slow_after

    def settle(self, lease: ProbeLease, outcome: Outcome, elapsed: float, reached: bool = True) -> None:
        if outcome is Outcome.SUCCESS and elapsed >= self.breaker.history.slow_after:
            outcome = Outcome.FAILURE
        # Even over a lost link: it may be back, and the lease would bar the fleet's next probe until it lapses.
        self._spawn(self._settle(lease, outcome, reached))

    async def _settle(self, lease: ProbeLease, outcome: Outcome, reached: bool) -> None:
        try:
            snapshot = await self._store.settle_probe(lease, self._settings, outcome, reached)
        except StoreUnavailable as exc:
            self._link.lost(exc)
            if lease.generation == self._generation:
                self.breaker.record_probe(outcome, 0.0, self._clock(), reached=reached)
        else:
            self.follow(snapshot)

    def report(self, now: float, everything: bool) -> CircuitReport | None:
        """What this replica has to say, or to ask; None when there is nothing yet."""
        breaker = self.breaker
        if not self._governed():
            breaker.current_state(now)
        if self._word is not None and self._word[0] != self._generation:
            self._word = None  # the circuit changed while it was found out
        if not (
            everything
            or breaker.history.last_failure != self._reported_failure
            or self._word is not None
            or breaker.state is not CLOSED
            or self._fleet is not CLOSED
            or now >= self.look_at
            or now - self._synced_at >= READ_EVERY
        ):
            return None
        self._reported_failure = breaker.history.last_failure
        seen = breaker.evidence(now)
        return CircuitReport(
            self.upstream,
            self._settings,
            self._generation,
            seen.calls,
            seen.failures,
            seen.slow_calls,
            seen.failure_ages,
            seen.success_age,
            seen.answered,
            seen.unreached_age,
            seen.unreached,
            self._word[1] if self._word is not None else None,
        )

    def apply(self, report: CircuitReport, snapshot: CircuitSnapshot, epoch: int, now: float) -> None:
        """What the store answered to a report. `epoch` identifies its memory."""
        regressed = report.generation == self._generation and snapshot.generation < report.generation
        forgot = self._losses != self._link.losses and (regressed or epoch != self._epoch)
        self._losses, self._epoch = self._link.losses, epoch
        self._synced_at = now
        if report.reachable is not None:
            self._word = None
        if self._generation and not forgot:
            if regressed:
                self._generation = 0
            self._follow(snapshot, now)
        elif snapshot.state is CLOSED:
            self._generation, self._fleet, self._failures = snapshot.generation, CLOSED, snapshot.failures
            # The evidence was sent under another generation and has not been heard.
            self._reported_failure = None
        else:
            self._adopt(snapshot, now)
        if snapshot.asked and not self._dialling and self._word is None:
            self._dialling = True
            self._spawn(self._ask_upstream(snapshot.generation))
        breaker = self.breaker
        if snapshot.denied and self._fleet is CLOSED and breaker.state is OPEN and breaker.cause != HERE_ONLY:
            logger.warning("Upstream %s: %s; the circuit is open here only", self.upstream, HERE_ONLY)
            breaker.cause = HERE_ONLY

    async def _ask_upstream(self, generation: int) -> None:
        """Find out whether the upstream can be reached from here, for the fleet to know. Who cannot even try says
        nothing, and is asked again with the next report."""
        try:
            reachable = await self._dial()
        finally:
            self._dialling = False
        if reachable is not None:
            self._word = generation, reachable
            self._link.wake()

    def follow(self, snapshot: CircuitSnapshot) -> None:
        """Follow the fleet, unless the answer is older than what is known. Generation 0: the store knows nothing."""
        self._follow(snapshot, self._clock())

    def reset_everywhere(self) -> None:
        """The store has been told to forget the circuit. An answer from before that must not bring it back: it is
        not later than the generation in which the next one, taken from the store's clock, is awaited."""
        self._generation += 1
        self._fleet = CLOSED
        self.reset_here()

    def _follow(self, snapshot: CircuitSnapshot, now: float) -> None:
        if snapshot.generation == 0 or snapshot.generation < self._generation:
            return
        if snapshot.generation > self._generation or self.breaker.state is not snapshot.state is not CLOSED:
            self._adopt(snapshot, now)
        self._fleet = snapshot.state
        self._failures = snapshot.failures
        self.look_at = float("inf")
        if snapshot.state is HALF_OPEN:
            self.look_at = now + HALF_OPEN_READ_EVERY
        elif snapshot.retry_after:
            self.look_at = now + snapshot.retry_after
        if snapshot.state is not CLOSED:
            self.breaker.until = now + snapshot.retry_after

    def _adopt(self, snapshot: CircuitSnapshot, now: float) -> None:
        self._generation, self._fleet, self._failures = snapshot.generation, snapshot.state, snapshot.failures
        self.look_at = float("inf")
        self._reported_failure = None
        begun_anew = snapshot.state is CLOSED is not self.breaker.state and not snapshot.cause
        cause = DELETED if begun_anew else snapshot.cause
        self.breaker.adopt(snapshot.state, snapshot.retry_after, cause, now)
        if snapshot.state is OPEN:
            self.breaker.opened_at = now - max(0.0, self._settings.reset_timeout - snapshot.retry_after)

    def _transitioned(self, old: CircuitState, new: CircuitState, cause: str) -> None:
        super()._transitioned(old, new, cause)
        if new is OPEN:
            self._link.wake()

"""A replica's view of a circuit that belongs to the fleet.

    fleet not closed, link up     the fleet decides: the breaker mirrors its verdict, a probe needs a lease of the store
    fleet closed, link up         the breaker decides for this replica alone, and its evidence goes to the fleet
    link down for a second        the breaker goes on from wherever it is

When another replica has no connection to the upstream, the store asks this one whether it can make one. It tries once
(`dial`) and reports the result at once.

So the state to act on is always the breaker's, and a closed circuit costs one attribute to read. A replica whose own
network is broken is protected by its own breaker, and the fleet does not follow it.

Whenever the fleet's generation changes, the replica takes over the fleet's state and forgets its own evidence. In this
way it learns of a trip, a recovery, a forced state and an operator's DEL. There are two exceptions, in which it keeps
its own state and evidence. A store that lost its memory while the link was down knows nothing of the circuit, which
does not mean that the circuit is closed. And what a replica has seen since it has reset the circuit itself is about the
new one. Answers may overtake each other, so an answer of an earlier generation is ignored.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Final, Protocol

from gateway.fleet.circuit import FORCED, Clock, LocalCircuit, TransitionHook, unnoticed
from gateway.fleet.link import Link
from gateway.policy.breaker import (
    CLOSED,
    FORCED_CLOSED,
    FORCED_OPEN,
    HALF_OPEN,
    OPEN,
    PROBE_PATIENCE,
    UNCOUNTED,
    BreakerSettings,
    CircuitOpen,
    CircuitState,
    Permit,
    probe_wait,
)
from gateway.policy.outcome import FAILURE, IGNORED, SUCCESS, Outcome
from gateway.store.port import CircuitReport, CircuitSnapshot, ProbeLease, StoreUnavailable, SyncAnswer

logger = logging.getLogger("gateway.circuit")

HALF_OPEN_READ_EVERY: Final = 0.05
"""The seconds between two reads of a half-open circuit. A place for a probe that another replica has freed is seen
within this time."""
READ_EVERY: Final = 0.5
"""The seconds between two reads of a closed circuit. An operator's DEL is noticed within this time, and the evidence in
the store stays fresh (it is gone after 2 s). Successes need not be reported sooner: a suspicion changes the store's
version, and then every replica reports what it has seen."""

GRACE: Final = 1.0
"""The seconds for which the fleet's verdict still binds after the link was lost. Most losses last milliseconds. If each
replica sent probes of its own during every loss, there would be more of them in the fleet than is allowed."""

DELETED: Final = "deleted from the store, or reset by another replica"
"""The cause of a circuit that has begun anew in the fleet. A reset deletes it too, so the two look the same."""

HERE_ONLY: Final = "no connection from this replica, though another one can connect"
"""The cause of a circuit that only this replica holds open, once the others have been asked."""


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
        self.release(FAILURE if slow else IGNORED, elapsed, now)


class SharedCircuit(LocalCircuit):
    """One replica's view of a circuit of the fleet.

    The sync loop calls `report` and `apply`. `look_at` is the instant at which the circuit has to be read sooner than
    usual; infinity when it has not.
    """

    __slots__ = (
        "_dial", "_dial_result", "_dialing", "_epoch", "_failures", "_fleet", "_generation", "_leasing", "_link",
        "_losses", "_probe_time", "_reported_failure", "_reset_here", "_settings", "_spawn", "_store", "_synced_at",
        "look_at",
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
        self._dialing = False
        # The generation in which the store asked, and whether a connection came about.
        self._dial_result: tuple[int, bool] | None = None
        self._spawn = spawn
        self._probe_time = probe_time
        self._fleet = CLOSED
        self._generation = 0
        self._failures = 0
        self._epoch = 0
        self._losses = 0
        # Whether this replica has reset the circuit, and not met the new one of the fleet yet.
        self._reset_here = False
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
            # The same as in `_try_unclosed`, for the state that refuses most requests.
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
        """The generation of the fleet; 0 until it is known."""
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
        """Whether the fleet decides.

        Then its clock decides too: transitions of the mirroring breaker that are due by time are not made here, because
        the two clocks differ by milliseconds and would contradict each other.
        """
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
            # `_leasing` is still True, so `try_acquire` cannot answer None, which would mean to ask again.
            verdict = verdict or self.try_acquire(self._clock()) or CircuitOpen(PROBE_PATIENCE, self.breaker.cause)
            self._leasing = False
            resume(verdict)

    def _leased(self, lease: ProbeLease) -> Permit | None:
        probe = _FleetProbe(self, lease)
        now = self._clock()
        if lease.generation < self._generation:
            probe.release(IGNORED, 0.0, now)
            return None
        if lease.generation > self._generation or self.breaker.state is not HALF_OPEN:
            granted = CircuitSnapshot(self.upstream, True, HALF_OPEN, lease.generation, self._failures, 0.0, "probing")
            self._adopt(granted, now)
        return probe

    def is_slow(self, elapsed: float) -> bool:
        """Whether a call of so many seconds is a slow one."""
        return elapsed >= self.breaker.history.slow_after

    def settle(self, lease: ProbeLease, outcome: Outcome, elapsed: float, reached: bool = True) -> None:
        """Tell the store how a leased probe ended, after `elapsed` seconds. A slow success counts as a failure."""
        if outcome is SUCCESS and self.is_slow(elapsed):
            outcome = FAILURE
        # The store is told even when the link is lost: it may be back, and otherwise the lease would keep the fleet
        # from its next probe until it lapses.
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
        """What this replica has to tell the fleet; None when there is nothing, unless `everything` is to be read."""
        breaker = self.breaker
        if not self._governed():
            breaker.current_state(now)
        if self._dial_result is not None and self._dial_result[0] != self._generation:
            self._dial_result = None  # the circuit has changed since the store asked
        if not (
            everything
            or breaker.history.last_failure != self._reported_failure
            or self._dial_result is not None
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
            self._dial_result[1] if self._dial_result is not None else None,
        )

    def apply(self, report: CircuitReport, snapshot: CircuitSnapshot, epoch: int, now: float) -> None:
        """Take what the store has answered to a report. `epoch` identifies its memory, and is new when it was lost."""
        regressed = report.generation == self._generation and snapshot.generation < report.generation
        forgot = self._losses != self._link.losses and (regressed or epoch != self._epoch)
        self._losses, self._epoch = self._link.losses, epoch
        self._synced_at = now
        if report.reachable is not None:
            self._dial_result = None
        if self._generation and not forgot:
            if regressed:
                self._generation = 0
            self._follow(snapshot, now)
        elif snapshot.state is CLOSED:
            self._begin_anew(snapshot)
        else:
            self._adopt(snapshot, now)
        if snapshot.asked and not self._dialing and self._dial_result is None:
            self._dialing = True
            self._spawn(self._ask_upstream(snapshot.generation))
        breaker = self.breaker
        if snapshot.denied and self._fleet is CLOSED and breaker.state is OPEN and breaker.cause != HERE_ONLY:
            logger.warning("Upstream %s: %s; the circuit is open here only", self.upstream, HERE_ONLY)
            breaker.cause = HERE_ONLY

    async def _ask_upstream(self, generation: int) -> None:
        """Find out for the fleet whether the upstream can be reached from here.

        A replica that cannot even try reports nothing, and is asked again with the next report.
        """
        try:
            reachable = await self._dial()
        finally:
            self._dialing = False
        if reachable is not None:
            self._dial_result = generation, reachable
            self._link.wake()

    def follow(self, snapshot: CircuitSnapshot) -> None:
        """Follow the fleet, unless the answer is older than what is known or the store knows nothing (generation 0)."""
        self._follow(snapshot, self._clock())

    def reset_everywhere(self) -> None:
        """The store has been told to forget the circuit.

        An answer from before that must not bring the old state back. The generation counted here is later than that of
        any such answer, and not later than that of the next circuit, which the store takes from its clock.
        """
        self._generation += 1
        self._fleet = CLOSED
        self._reset_here = True
        self.reset_here()

    def _follow(self, snapshot: CircuitSnapshot, now: float) -> None:
        if snapshot.generation == 0 or snapshot.generation < self._generation:
            return
        reset_here, self._reset_here = self._reset_here, False
        if reset_here and snapshot.state is CLOSED:
            self._begin_anew(snapshot)
        elif snapshot.generation > self._generation or self.breaker.state is not snapshot.state is not CLOSED:
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

    def _begin_anew(self, snapshot: CircuitSnapshot) -> None:
        """Take over the generation of a closed circuit, and keep the own state and evidence."""
        self._generation, self._fleet, self._failures = snapshot.generation, CLOSED, snapshot.failures
        # The evidence was sent under another generation, and the store has ignored it.
        self._reported_failure = None

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

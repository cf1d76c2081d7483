"""The circuits of all upstreams by name: what the application makes, the proxy asks, and the control plane commands."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from gateway.config.sections.upstreams.model import EndpointConfig, UpstreamConfig
from gateway.fleet.circuit import Circuit, Clock, LocalCircuit, TransitionHook, unnoticed
from gateway.fleet.link import Link
from gateway.fleet.shared_circuit import CircuitStore, SharedCircuit
from gateway.policy.breaker import FORCED_CLOSED, FORCED_OPEN, UNCOUNTED, CircuitOpen, CircuitState, Permit
from gateway.store.port import CircuitReport, CircuitSnapshot, StoreUnavailable

__all__ = ["UNCOUNTED", "Circuit", "CircuitOpen", "Circuits", "LocalCircuit", "Permit", "SharedCircuit"]

MARGIN: Final = 1.0
"""The seconds that a probe may take beyond the time limit of its attempt before its lease lapses."""


async def _nowhere(_endpoints: Sequence[EndpointConfig]) -> bool | None:
    return False


class Circuits(Mapping[str, Circuit]):
    """Every upstream's circuit by name.

    The circuits belong to the fleet of `store`, and `link` says whether it answers. `dial` tries whether one of the
    endpoints can be reached from here; it says None when that cannot be found out. Without `dial` no endpoint can be
    reached.

    The object is made and used on one event loop. `close` ends what is under way.
    """

    def __init__(
        self,
        upstreams: Iterable[UpstreamConfig],
        store: CircuitStore,
        link: Link,
        clock: Clock = time.monotonic,
        on_transition: TransitionHook = unnoticed,
        dial: Callable[[Sequence[EndpointConfig]], Awaitable[bool | None]] = _nowhere,
    ) -> None:
        self._store = store
        self._link = link
        self._clock = clock
        self._tasks: set[asyncio.Task[None]] = set()
        self._shared: dict[str, SharedCircuit] = {}
        for upstream in upstreams:
            name, settings, probe_time = upstream.name, upstream.breaker, upstream.attempt_timeout + MARGIN
            self._shared[name] = SharedCircuit(
                name,
                settings,
                store=store,
                link=self._link,
                dial=partial(dial, upstream.endpoints),
                spawn=self._start,
                clock=clock,
                probe_time=probe_time,
                on_transition=on_transition,
            )

    def __getitem__(self, upstream: str) -> Circuit:
        return self._shared[upstream]

    def __iter__(self) -> Iterator[str]:
        return iter(self._shared)

    def __len__(self) -> int:
        return len(self._shared)

    async def force(self, upstream: str, state: CircuitState, duration: float, cause: str) -> bool:
        """Force a circuit FORCED_OPEN or FORCED_CLOSED for `duration` seconds; ValueError for any other state.

        True: in the whole fleet. False: only here.
        """
        if state is not FORCED_OPEN and state is not FORCED_CLOSED:
            raise ValueError(f"a circuit can be forced open or closed, not {state.value}")
        return await self._force(upstream, state, duration, cause)

    async def release(self, upstream: str) -> bool:
        """End a forced state. True: in the whole fleet. False: only here."""
        return await self._force(upstream, None, 0.0, "")

    async def reset(self, upstream: str) -> bool:
        """Close the circuit and forget why it was open. True: in the whole fleet. False: only here."""
        circuit = self._shared[upstream]
        if self._link.up:
            try:
                await self._store.reset(upstream)
            except StoreUnavailable as exc:
                self._link.lost(exc)
            else:
                self._shared[upstream].reset_everywhere()
                return True
        circuit.reset_here()
        return False

    async def _force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> bool:
        circuit = self._shared[upstream]
        if self._link.up:
            try:
                snapshot = await self._store.force(upstream, state, duration, cause)
            except StoreUnavailable as exc:
                self._link.lost(exc)
            else:
                self._shared[upstream].follow(snapshot)
                if state is None:
                    # Something that was forced while the link was down belongs to this replica alone.
                    circuit.force_here(None, 0.0, "")
                return True
        circuit.force_here(state, duration, cause)
        return False

    def reports(self, now: float, everything: bool) -> list[CircuitReport]:
        """What the circuits have to tell the fleet; with `everything` each of them says something."""
        found = (circuit.report(now, everything) for circuit in self._shared.values())
        return [report for report in found if report is not None]

    def apply(self, report: CircuitReport, snapshot: CircuitSnapshot, epoch: int, now: float) -> None:
        """What the store has answered to a report (see `SharedCircuit.apply`)."""
        self._shared[report.upstream].apply(report, snapshot, epoch, now)

    def next_look(self, now: float) -> float:
        """The seconds until some circuit has to be read sooner than usual; infinite when none has to."""
        return min((circuit.look_at for circuit in self._shared.values()), default=float("inf")) - now

    async def close(self) -> None:
        """Wait until the outcomes of probes have reached the store, for as long as its time limit at most."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

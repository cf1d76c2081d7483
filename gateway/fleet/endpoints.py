"""Endpoints that an operator has taken out, in the whole fleet through the store.

A command that is given while the store is away holds here alone, until it ends or is taken back. When the store answers
again, what it says is added. Endpoints that this replica does not have are ignored.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final, Literal, NamedTuple

from gateway.fleet.link import Link
from gateway.store.port import EndpointOut, EndpointStore, StoreUnavailable

Mode = Literal["drained", "disabled"]

_LOOK_AGAIN: Final = 1.0


class Out(NamedTuple):
    """How an endpoint is out, until the instant `until` of the clock, and why."""

    mode: Mode
    until: float
    reason: str


Changed = Callable[[str, Mapping[str, Out]], None]
"""Called with an upstream and all of its endpoints that are out, when they have changed."""


def unnoticed(_upstream: str, _out: Mapping[str, Out]) -> None:
    """The listener where nobody wants to hear of changes."""


class EndpointsOut:
    """The endpoints that are out. `upstreams` has all endpoints that there are, by upstream.

    Made and used on one event loop.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Iterable[str]],
        store: EndpointStore,
        link: Link,
        clock: Callable[[], float] = time.monotonic,
        on_change: Changed = unnoticed,
    ) -> None:
        self.endpoints = {name: frozenset(labels) for name, labels in upstreams.items()}
        self._store = store
        self._link = link
        self._clock = clock
        self.on_change = on_change
        # By upstream and endpoint: what the store said last, and what was said here while it was away.
        self._fleet: dict[tuple[str, str], Out] = {}
        self._here: dict[tuple[str, str], Out] = {}
        self._told: dict[str, dict[str, Out]] = {name: {} for name in self.endpoints}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def interval(self) -> float | None:
        """The seconds after which the store has to be read again; None: when its version changes."""
        return _LOOK_AGAIN if self._fleet else None

    def of(self, upstream: str) -> Mapping[str, Out]:
        """The endpoints of one upstream that are out now. KeyError for an unknown upstream."""
        now = self._clock()
        return {endpoint: out for endpoint, out in self._told[upstream].items() if out.until > now}

    async def take_out(self, upstream: str, endpoint: str, mode: Mode, duration: float, reason: str) -> bool:
        """Take an endpoint out for `duration` seconds. True: in the whole fleet. False: only here."""
        everywhere = await self._tell(upstream, endpoint, EndpointOut(upstream, endpoint, mode, duration, reason))
        kept = self._fleet if everywhere else self._here
        kept[upstream, endpoint] = Out(mode, self._clock() + duration, reason)
        self._apply()
        return everywhere

    async def bring_back(self, upstream: str, endpoint: str) -> bool:
        """Let an endpoint have requests again. True: in the whole fleet. False: only here."""
        everywhere = await self._tell(upstream, endpoint, None)
        self._here.pop((upstream, endpoint), None)
        self._fleet.pop((upstream, endpoint), None)
        self._apply()
        return everywhere

    async def refresh(self) -> None:
        """Read what the fleet says now. Raises `StoreUnavailable`."""
        listed = await self._store.endpoints_out()
        now = self._clock()
        self._fleet = {
            (out.upstream, out.endpoint): Out(out.mode, now + out.left, out.reason)
            for out in listed
            if out.endpoint in self.endpoints.get(out.upstream, ())
        }
        self._apply()

    def close(self) -> None:
        """Forget the timer; nothing comes back by itself any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def _tell(self, upstream: str, endpoint: str, out: EndpointOut | None) -> bool:
        if not self._link.up:
            return False
        try:
            if out is not None:
                await self._store.take_out(out)
            else:
                await self._store.bring_back(upstream, endpoint)
        except StoreUnavailable as exc:
            self._link.lost(exc)
            return False
        return True

    def _apply(self) -> None:
        now = self._clock()
        self._here = {key: out for key, out in self._here.items() if out.until > now}
        self._fleet = {key: out for key, out in self._fleet.items() if out.until > now}
        together: dict[str, dict[str, Out]] = {name: {} for name in self.endpoints}
        for (upstream, endpoint), out in {**self._fleet, **self._here}.items():
            together[upstream][endpoint] = out
        told, self._told = self._told, together
        for upstream, out_now in together.items():
            if {endpoint: out.mode for endpoint, out in out_now.items()} != {
                endpoint: out.mode for endpoint, out in told[upstream].items()
            }:
                self.on_change(upstream, out_now)
        self.close()
        ends = [out.until for out in (*self._here.values(), *self._fleet.values())]
        if ends:
            self._timer = asyncio.get_running_loop().call_later(max(0.001, min(ends) - now), self._apply)

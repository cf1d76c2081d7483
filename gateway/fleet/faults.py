"""Faults on demand, in the whole fleet through the store.

A fault is owned by the replica that was asked for it. The owner says once a second that it is still there, and a fault
whose owner has said nothing for `LEASE` seconds is over. A replica that loses the store has no faults, and no longer
owns any when the store is back. So a fault ends everywhere

    at its end, when it is removed, when its owner dies, stops or loses the store, when the store is gone

Where the store is Redis, the keys `chaos:{upstream}:{setting}`, which operators write by hand, are faults too. They
have no owner; the store gives an end to each that has none.

All faults of the moment are of one upstream. The store sees to that for those that were asked for; of the keys only
those of one upstream count, and none while another upstream has faults.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from gateway.fleet.link import Link
from gateway.policy.faults import Fault
from gateway.store.faults import CHAOS_SETTINGS, ChaosKey, ChaosSetting, FaultStore
from gateway.store.port import StoreUnavailable

logger = logging.getLogger("gateway.faults")

LEASE: Final = 5.0
INTERVAL: Final = 1.0
_KEYS_PAUSE: Final = 60.0
_SOON: Final = 0.05
_MOST_MS: Final = 60_000.0
KEY_ID: Final[Mapping[ChaosSetting, str]] = {
    "error_rate": "key-error-rate",
    "latency_ms": "key-latency-ms",
    "lock_contention_ms": "key-lock-contention-ms",
}
"""The ids of the faults that keys make."""


class FaultLimits(NamedTuple):
    """The most that one may ask for: percent of the attempts, and seconds."""

    percent: float
    seconds: float


class Active(NamedTuple):
    """A fault until the instant `end` of the clock, and no longer than `until` without another word of its owner."""

    fault: Fault
    until: float
    end: float


Changed = Callable[[Sequence[Active]], None]


def unnoticed(_active: Sequence[Active]) -> None:
    """The listener where nobody wants to hear of changes."""


class FleetFaults:
    """The faults of now. `upstreams` are the names of those that there are. With `keys` the store is a Redis, whose
    keys are looked at. Made and used on one event loop."""

    def __init__(
        self,
        upstreams: Sequence[str],
        store: FaultStore,
        link: Link,
        limits: FaultLimits,
        *,
        keys: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.limits = limits
        self.on_change: Changed = unnoticed
        self._upstreams = tuple(upstreams)
        self._store = store
        self._link = link
        self._clock = clock
        self._with_keys = keys
        self._no_keys_until = 0.0
        self._losses = link.losses
        self._own: set[str] = set()
        self._asked: dict[str, Active] = {}
        self._of_keys: dict[str, Active] = {}
        self._ignored: frozenset[str] = frozenset()
        self._told: dict[str, Active] = {}
        self._causes: dict[str, str] = {}
        self._timer: asyncio.TimerHandle | None = None
        # A list that was asked for before an order, and comes after it, would undo what the order has done here.
        self._turn = asyncio.Lock()

    @property
    def interval(self) -> float | None:
        """The seconds after which the store has to be read again; None: when its version changes."""
        return INTERVAL if self._with_keys or self._told else None

    @property
    def active(self) -> Sequence[Active]:
        """The faults of now, in the order of their ids. There are none while the store is away."""
        now = self._clock()
        return [each for each in self._told.values() if each.until > now] if self._link.up else []

    @property
    def upstream(self) -> str:
        """The upstream that has faults now; empty for none."""
        return next((each.fault.upstream for each in self.active), "")

    async def add(self, fault: Fault, duration: float) -> str:
        """Have a fault everywhere for `duration` seconds. Returns "", or what `FaultStore.add_fault` says in the way.
        Raises `StoreUnavailable`: without the store there are no faults."""
        async with self._turn:
            of_keys = next((each.fault.upstream for each in self._of_keys.values()), fault.upstream)
            if of_keys != fault.upstream:
                return of_keys
            asked_at = self._clock()
            with self._reached():
                in_the_way = await self._store.add_fault(fault, duration, LEASE)
            if not in_the_way:
                self._own.add(fault.id)
                self._asked[fault.id] = Active(fault, asked_at + min(LEASE, duration), asked_at + duration)
                self._apply()
            return in_the_way

    async def remove(self, ids: Sequence[str], cause: str = "it was removed") -> int:
        """End some of the faults that were asked for. Returns how many there were. Raises `StoreUnavailable`."""
        async with self._turn:
            with self._reached():
                count = await self._store.drop_faults(ids)
            for each in ids:
                self._own.discard(each)
                if self._asked.pop(each, None) is not None:
                    self._causes[each] = cause
            self._apply()
            return count

    async def remove_keys(
        self, upstream: str, settings: Sequence[ChaosSetting] = CHAOS_SETTINGS, cause: str = "its key was removed"
    ) -> int:
        """Remove some keys of an upstream. Returns how many there were. Raises `StoreUnavailable`."""
        async with self._turn:
            return await self._remove_keys([(upstream, setting) for setting in settings], cause)

    async def _remove_keys(self, keys: Sequence[tuple[str, ChaosSetting]], cause: str) -> int:
        if not self._with_keys:
            return 0
        with self._reached():
            count = await self._store.drop_chaos(keys)
        for upstream, setting in keys:
            name = KEY_ID[setting]
            if name in self._of_keys and self._of_keys[name].fault.upstream == upstream:
                del self._of_keys[name]
                self._causes[name] = cause
        self._apply()
        return count

    async def remove_all(self, cause: str = "it was removed") -> int:
        """End every fault, keys included. Returns how many there were. Raises `StoreUnavailable`."""
        async with self._turn:
            with self._reached():
                count = await self._store.drop_faults(None)
            self._causes.update(dict.fromkeys(self._asked, cause))
            self._own.clear()
            self._asked.clear()
            self._apply()
            keys = [(upstream, setting) for upstream in self._upstreams for setting in CHAOS_SETTINGS]
            return count + await self._remove_keys(keys, cause)

    async def refresh(self) -> None:
        """Say that this replica is there, and read what the fleet says now. Raises `StoreUnavailable`."""
        async with self._turn:
            await self._refresh()

    async def _refresh(self) -> None:
        store = self._store
        if self._link.losses != self._losses and self._own:
            await store.drop_faults(sorted(self._own))
            self._own.clear()
        self._losses = self._link.losses
        await store.renew_faults(sorted(self._own), LEASE)
        asked_at = self._clock()
        listed = await store.faults()
        known = {each.fault.id: each for each in listed if each.fault.upstream in self._upstreams}
        self._asked = {
            name: Active(each.fault, asked_at + each.lease, asked_at + each.left) for name, each in known.items()
        }
        self._own &= known.keys()
        self._of_keys = await self._read_keys()
        self._apply()

    async def stop(self) -> None:
        """End what this replica owns, as far as the store can be told so."""
        self._cancel_timer()
        if self._own and self._link.up:
            with contextlib.suppress(StoreUnavailable):
                await self._store.drop_faults(sorted(self._own))

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        if not self._link.up:
            raise StoreUnavailable(self._link.last_error or "the store does not answer")
        try:
            yield
        except StoreUnavailable as exc:
            self._link.lost(exc)
            raise

    async def _read_keys(self) -> dict[str, Active]:
        asked_at = self._clock()
        if not self._with_keys or asked_at < self._no_keys_until:
            return {}
        try:
            keys = await self._store.chaos(self._upstreams, self.limits.seconds)
        except StoreUnavailable as exc:
            # Redis may well forbid these keys alone, which must not cost the gateway the rest of it.
            self._no_keys_until = asked_at + _KEYS_PAUSE
            logger.warning("the chaos keys cannot be read for now: %s", exc, extra={"event": "fault_keys_unreadable"})
            return {}
        faults = [(each, fault) for each in keys if (fault := fault_of_key(each, self.limits.percent)) is not None]
        taken = next((each.fault.upstream for each in self._asked.values()), "")
        upstream = taken or next((fault.upstream for _, fault in faults), "")
        ignored = frozenset(f"chaos:{each.upstream}:{each.setting}" for each, f in faults if f.upstream != upstream)
        if ignored - self._ignored:
            names = ", ".join(sorted(ignored))
            logger.warning(
                "%s without effect: %s has faults, and only one upstream may", names, upstream,
                extra={"event": "fault_keys_ignored", "upstream": upstream},
            )  # fmt: skip
        self._ignored = ignored
        return {
            fault.id: Active(fault, asked_at + each.left, asked_at + each.left)
            for each, fault in faults
            if fault.upstream == upstream
        }

    def _apply(self) -> None:
        now = self._clock()
        told = self._told
        both = {**self._asked, **self._of_keys}
        self._told = {name: both[name] for name in sorted(both) if both[name].until > now}
        for name, each in told.items():
            if name not in self._told:
                self._tell_end(each, now)
        for name, each in self._told.items():
            before = told.get(name)
            if before is None or before.fault != each.fault:
                self._tell_begin(each, now)
        self._causes.clear()
        self.on_change(list(self._told.values()))
        self._cancel_timer()
        if self._told:
            first = min(each.until for each in self._told.values())
            self._timer = asyncio.get_running_loop().call_later(max(0.001, first - now), self._apply)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tell_begin(self, each: Active, now: float) -> None:
        fault = each.fault
        logger.warning(
            "Fault %s of %s: %s for %g %% of its attempts, for %.0f s at most (%s)",
            *(fault.id, fault.upstream, fault.does, fault.percent, each.end - now, fault.reason),
            extra={"event": "fault_began", "fault": fault.id, "kind": fault.kind, "upstream": fault.upstream},
        )

    def _tell_end(self, each: Active, now: float) -> None:
        fault = each.fault
        cause = self._causes.get(fault.id) or self._why_over(each, now)
        logger.warning(
            "Fault %s of %s is over: %s",
            *(fault.id, fault.upstream, cause),
            extra={"event": "fault_ended", "fault": fault.id, "kind": fault.kind, "upstream": fault.upstream},
        )

    def _why_over(self, each: Active, now: float) -> str:
        if now >= each.end - _SOON:
            return "its time has come"
        if not self._link.up:
            return "the store is lost"
        return "its gateway is gone" if now >= each.until - _SOON else "it is gone from the store"


def fault_of_key(key: ChaosKey, most_percent: float) -> Fault | None:
    """What a key asks for, within the limit. None for nothing, and for a value that cannot be meant."""
    name = f"chaos:{key.upstream}:{key.setting}"
    made = KEY_ID[key.setting], key.upstream
    if key.setting == "error_rate":
        if not 0 < key.value <= 1:
            return None
        return Fault(*made, "abort", min(100 * key.value, most_percent), name, "redis")
    if not 0 < key.value <= _MOST_MS:
        return None
    return Fault(*made, "delay", most_percent, name, "redis", delay=key.value / 1000)

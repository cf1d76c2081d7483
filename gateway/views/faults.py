"""What the control plane sees of faults on demand, and what it may order about them (gateway.control.ports.faults)."""

import secrets
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from gateway.control.ports.faults import ChaosSetting, FaultInTheWay, FaultOrder, FaultsAway, FaultView
from gateway.fleet.faults import KEY_ID, FleetFaults
from gateway.policy.faults import Fault
from gateway.proxy.errands.rehearsal import Rehearsal
from gateway.store.port import StoreUnavailable

_T = TypeVar("_T")
_CHAOS_ID: Final[Mapping[ChaosSetting, str]] = {
    "error_rate": "chaos-error-rate",
    "latency_ms": "chaos-latency-ms",
    "lock_contention_ms": "chaos-lock-contention-ms",
}
_KEYS: Final = {each: setting for setting, each in KEY_ID.items()}


class LiveFaults:
    """The faults of the fleet. `routes` has the upstream of each route; `is_critical` says whether the error rate of an
    upstream has reached the threshold of the critical alert."""

    def __init__(
        self,
        fleet: FleetFaults,
        routes: Mapping[str, str],
        rehearsal: Rehearsal,
        is_critical: Callable[[str], Awaitable[bool]],
    ) -> None:
        self.max_percent = fleet.limits.percent
        self.max_duration = fleet.limits.seconds
        self.routes = routes
        self._is_critical = is_critical
        self._fleet = fleet
        self._rehearsal = rehearsal

    @property
    def faults(self) -> Sequence[FaultView]:
        """Those of now."""
        now = time.monotonic()
        return [
            FaultView(
                id=fault.id,
                upstream=fault.upstream,
                kind=fault.kind,
                percent=fault.percent,
                route=fault.route,
                endpoint=fault.endpoint,
                header=fault.header,
                clients=fault.clients,
                delay=fault.delay,
                status=fault.status,
                rate=fault.rate,
                reason=fault.reason,
                by=fault.by,
                left=max(0.0, end - now),
                source="key" if fault.id in _KEYS else "api",
                does=fault.does,
            )
            for fault, _, end in self._fleet.active
        ]

    async def critical(self, upstream: str) -> bool:
        """Whether the upstream's error rate has reached the threshold of the critical alert."""
        return await self._is_critical(upstream)

    async def add(self, order: FaultOrder) -> str:
        """Have one in the whole fleet; its id. Raises `FaultInTheWay` and `FaultsAway`."""
        fault = Fault(
            id=order.id or secrets.token_hex(4),
            upstream=order.upstream,
            kind=order.kind,
            percent=order.percent,
            reason=order.reason,
            by=order.by,
            route=order.route,
            endpoint=order.endpoint,
            header=order.header,
            clients=order.clients,
            delay=order.delay,
            status=order.status,
            rate=order.rate,
        )
        in_the_way = await _available(self._fleet.add(fault, order.duration))
        if in_the_way:
            raise FaultInTheWay("" if in_the_way == "*" else in_the_way)
        return fault.id

    async def remove(self, ids: Sequence[str]) -> int:
        """End these; how many there were. Raises `FaultsAway`."""
        of_keys = [fault for fault, _, _ in self._fleet.active if fault.id in _KEYS and fault.id in ids]
        count = await _available(self._fleet.remove([each for each in ids if each not in _KEYS]))
        for fault in of_keys:
            count += await _available(self._fleet.remove_keys(fault.upstream, [_KEYS[fault.id]]))
        return count

    async def remove_all(self) -> int:
        """End all of them; how many there were. Raises `FaultsAway`."""
        return await _available(self._fleet.remove_all())

    async def chaos(self, upstream: str) -> Mapping[ChaosSetting, float]:
        """What is in force of an upstream's `/chaos/config`; 0 for nothing."""
        active = {fault.id: fault for fault, _, _ in self._fleet.active if fault.upstream == upstream}
        found: dict[ChaosSetting, float] = {}
        for setting, own in _CHAOS_ID.items():
            fault = active.get(own) or active.get(KEY_ID[setting])
            if fault is None:
                found[setting] = 0.0
            else:
                found[setting] = fault.percent / 100 if setting == "error_rate" else fault.delay * 1000
        return found

    async def set_chaos(self, upstream: str, values: Mapping[ChaosSetting, float], order: FaultOrder) -> None:
        """Put these settings in place of what they are; 0 ends one. Raises `FaultInTheWay` and `FaultsAway`."""
        for setting, value in values.items():
            own = _CHAOS_ID[setting]
            if value == 0:
                await _available(self._fleet.remove([own]))
            elif setting == "error_rate":
                await self.add(order._replace(id=own, upstream=upstream, kind="abort", percent=100 * value))
            else:
                delay = value / 1000
                await self.add(
                    order._replace(id=own, upstream=upstream, kind="delay", percent=self.max_percent, delay=delay)
                )
        await _available(self._fleet.remove_keys(upstream, list(values)))

    async def fail_once(self, upstream: str) -> bool:
        """Have circuit and figures of an upstream see one failed call."""
        return await self._rehearsal.call(upstream, succeeds=False)

    async def succeed_once(self, upstream: str) -> bool:
        """The same with a call that succeeds."""
        return await self._rehearsal.call(upstream, succeeds=True)


async def _available(asked: Awaitable[_T]) -> _T:
    try:
        return await asked
    except StoreUnavailable as why:
        raise FaultsAway(str(why)) from why

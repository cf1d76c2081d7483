"""Faults on demand: the reference for `lua/faults.lua`."""

from collections.abc import Callable, Sequence

from gateway.policy.faults import Fault
from gateway.store.faults import MOST, SharedFault


class FaultTable:
    """What several replicas share, as they share a Redis. Instants are of `clock`, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        # By id: the fault, its end, and until when its owner's last word is good.
        self._faults: dict[str, tuple[Fault, float, float]] = {}

    def add(self, fault: Fault, duration: float, lease: float) -> str:
        """See `FaultStore.add_fault`."""
        others = [each.fault for each in self.listed() if each.fault.id != fault.id]
        elsewhere = next((each.upstream for each in others if each.upstream != fault.upstream), "")
        if elsewhere or len(others) >= MOST:
            return elsewhere or "*"
        now = self._clock()
        self._faults[fault.id] = fault, now + duration, min(now + duration, now + lease)
        return ""

    def renew(self, ids: Sequence[str], lease: float) -> None:
        """See `FaultStore.renew_faults`."""
        self.listed()  # what has ended is gone
        until = self._clock() + lease
        for each in ids:
            if each in self._faults:
                fault, end, _ = self._faults[each]
                self._faults[each] = fault, end, min(end, until)

    def drop(self, ids: Sequence[str] | None) -> int:
        """See `FaultStore.drop_faults`."""
        there = {each.fault.id for each in self.listed()}
        dropped = there if ids is None else there.intersection(ids)
        for each in dropped:
            del self._faults[each]
        return len(dropped)

    def listed(self) -> Sequence[SharedFault]:
        """See `FaultStore.faults`."""
        now = self._clock()
        self._faults = {name: kept for name, kept in self._faults.items() if kept[2] > now}
        return [SharedFault(fault, end - now, until - now) for fault, end, until in self._faults.values()]

"""The part of the store port that is about faults on demand (`gateway.policy.faults`).

A fault belongs to the replica that has set it. It lasts until its end, and no longer than `lease` seconds after the
last word of that replica. So it ends everywhere when the replica dies.
"""

from collections.abc import Sequence
from dataclasses import asdict, fields
from typing import Any, Final, Literal, NamedTuple, Protocol, get_args

from gateway.policy.faults import KINDS, Fault

MOST: Final = 16
"""The most faults that a store keeps at once."""

ChaosSetting = Literal["error_rate", "latency_ms", "lock_contention_ms"]
CHAOS_SETTINGS: Final[tuple[ChaosSetting, ...]] = get_args(ChaosSetting)

_TEXTS: Final = frozenset({"id", "upstream", "kind", "reason", "by", "route", "endpoint", "header"})
_NAMES: Final = frozenset(each.name for each in fields(Fault))


class SharedFault(NamedTuple):
    """A fault that lasts for another `left` seconds; if its owner is silent, for `lease` seconds (at most `left`)."""

    fault: Fault
    left: float
    lease: float


class ChaosKey(NamedTuple):
    """What somebody has written to `chaos:{upstream}:{setting}`, good for another `left` seconds."""

    upstream: str
    setting: ChaosSetting
    value: float
    left: float


class FaultStore(Protocol):
    """The faults of the fleet. All of them are of one upstream. A change raises the version of the circuits
    (`gateway.store.port.SyncAnswer.version`)."""

    async def add_fault(self, fault: Fault, duration: float, lease: float) -> str:
        """Add a fault for `duration` seconds, in place of one with the same id. Returns "". Where another upstream has
        faults nothing is added, and the name of that upstream is returned; `*` where there are `MOST` already."""
        ...

    async def renew_faults(self, ids: Sequence[str], lease: float) -> None:
        """The owner of these faults is still there. Those that are gone stay gone."""
        ...

    async def drop_faults(self, ids: Sequence[str] | None) -> int:
        """End these faults, or with None all of them. Returns how many there were."""
        ...

    async def faults(self) -> Sequence[SharedFault]:
        """The faults of now."""
        ...

    async def chaos(self, upstreams: Sequence[str], most: float) -> Sequence[ChaosKey]:
        """What the `chaos:` keys of these upstreams say. A key without an end, or with a later one, gets one in `most`
        seconds. Only Redis has such keys."""
        ...

    async def drop_chaos(self, keys: Sequence[tuple[str, ChaosSetting]]) -> int:
        """Remove these `chaos:` keys, each given by upstream and setting. Returns how many there were."""
        ...


def plain(fault: Fault) -> dict[str, Any]:
    """The fault as plain data."""
    return asdict(fault)


def fault_of(data: Any) -> Fault | None:
    """The fault of plain data. None for what another version of the gateway may have written and this one does not
    understand."""
    if not isinstance(data, dict) or not data.keys() <= _NAMES or data.get("kind") not in KINDS:
        return None
    for name, value in data.items():
        if not isinstance(value, str if name in _TEXTS else int | float) or isinstance(value, bool):
            return None
    try:
        fault = Fault(**data)
    except TypeError:
        return None
    bounded = 0 < fault.percent <= 100 and 0 < fault.clients <= 100 and 400 <= fault.status <= 599
    return fault if bounded and 0 <= fault.delay <= 3600 and 1 <= fault.rate <= 10_000_000 else None

"""What the control plane may know about faults on demand, and what it may order (`gateway.views.faults`)."""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, Protocol

Kind = Literal["delay", "abort", "reset", "truncate", "slow_body", "connect_timeout"]
ChaosSetting = Literal["error_rate", "latency_ms", "lock_contention_ms"]


class FaultsAway(Exception):
    """The store does not answer. The message is safe to show."""


class FaultInTheWay(Exception):
    """Another fault is in the way. `upstream` has it; empty: there are as many as there may be."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self.upstream = upstream


class FaultView(NamedTuple):
    """One fault of now. Empty `route`, `endpoint` and `header`: of all of them. `delay` and `left` in seconds, `rate`
    in bytes a second; which of `delay`, `status` and `rate` counts, its kind says. `source` is where it was asked for:
    a key of Redis, or this API. `does` says in words what it does to an attempt."""

    id: str
    upstream: str
    kind: Kind
    percent: float
    route: str
    endpoint: str
    header: str
    clients: float
    delay: float
    status: int
    rate: int
    reason: str
    by: str
    left: float
    source: Literal["api", "key"]
    does: str


class FaultOrder(NamedTuple):
    """What is asked for; the members mean what they mean in `FaultView`. An empty `id` has one made."""

    upstream: str
    kind: Kind
    percent: float
    duration: float
    reason: str
    by: str
    id: str = ""
    route: str = ""
    endpoint: str = ""
    header: str = ""
    clients: float = 100.0
    delay: float = 1.0
    status: int = 503
    rate: int = 1024


class FaultsView(Protocol):
    """The faults of the fleet. Orders raise `FaultsAway` while the store does not answer."""

    @property
    def max_percent(self) -> float:
        """The most that one may ask for."""
        ...

    @property
    def max_duration(self) -> float:
        """The longest time in seconds that one may ask for."""
        ...

    @property
    def routes(self) -> Mapping[str, str]:
        """The upstream of each route."""
        ...

    @property
    def faults(self) -> Sequence[FaultView]:
        """Those of now."""
        ...

    async def critical(self, upstream: str) -> bool:
        """Whether the upstream's error rate has reached the threshold of the critical alert."""
        ...

    async def add(self, order: FaultOrder) -> str:
        """Have one in the whole fleet; its id. Raises `FaultInTheWay`."""
        ...

    async def remove(self, ids: Sequence[str]) -> int:
        """End these; how many there were."""
        ...

    async def remove_all(self) -> int:
        """End all of them; how many there were."""
        ...

    async def chaos(self, upstream: str) -> Mapping[ChaosSetting, float]:
        """What is in force of an upstream's `/chaos/config`; 0 for nothing."""
        ...

    async def set_chaos(self, upstream: str, values: Mapping[ChaosSetting, float], order: FaultOrder) -> None:
        """Put these settings in place of what they are; 0 ends one. Who asks, why and for how long is as in `order`.
        Raises `FaultInTheWay`."""
        ...

    async def fail_once(self, upstream: str) -> bool:
        """Have the circuit and the figures of an upstream see one failed call. False: the circuit lets none through."""
        ...

    async def succeed_once(self, upstream: str) -> bool:
        """The same with a call that succeeds."""
        ...

"""What a peer is: a proxy in front of the rig's upstream that can be started, on one core, with one worker."""

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.children import Child
from benchmarks.rig import Rig


@dataclass(frozen=True, slots=True)
class Proxy:
    """A running peer."""

    name: str
    child: Child
    port: int
    uses_redis: bool = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@dataclass(frozen=True, slots=True)
class Peer:
    """`protections` is what it does beyond passing requests on, in words. `missing` says what would bring it, None
    when it is there; `start` starts it on the rig's proxy core and returns when it listens. It
    needs `warm_up` seconds of load before it is as fast as it gets (a just-in-time compiler)."""

    name: str
    protections: str
    missing: Callable[[], str | None]
    start: Callable[[Rig], Proxy]
    warm_up: float = 0.0

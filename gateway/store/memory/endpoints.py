"""Endpoints that an operator has taken out: the reference for `lua/endpoints.lua`."""

from collections.abc import Callable, Sequence

from gateway.store.port import EndpointOut


class OutTable:
    """What several replicas share, as they share a Redis. Instants are of `clock`, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.out: dict[tuple[str, str], tuple[EndpointOut, float]] = {}

    def put(self, out: EndpointOut) -> None:
        """See `EndpointStore.take_out`."""
        self.listed()  # what has ended goes
        self.out[out.upstream, out.endpoint] = (out, self._clock() + out.left)

    def drop(self, upstream: str, endpoint: str) -> bool:
        """See `EndpointStore.bring_back`."""
        known = {(out.upstream, out.endpoint) for out in self.listed()}
        self.out.pop((upstream, endpoint), None)
        return (upstream, endpoint) in known

    def listed(self) -> Sequence[EndpointOut]:
        """See `EndpointStore.endpoints_out`."""
        now = self._clock()
        self.out = {key: (out, until) for key, (out, until) in self.out.items() if until > now}
        return [out._replace(left=until - now) for out, until in self.out.values()]

"""Which route a request takes: host first, then the longest path prefix.

One dictionary lookup per depth of the path, from the deepest that any route has upwards: the cost depends on how deep
the prefixes are, never on how many there are. Paths are compared as the bytes they are; nothing is decoded, so
`/a%2Fb` is not below `/a/`. A route for the exact host is preferred to one for any host, whatever their prefixes'
lengths."""

from collections.abc import Iterable
from typing import Generic, Protocol, TypeVar


class Routed(Protocol):
    """`host` as `gateway.syntax.hosts.host` spells it, empty for any."""

    @property
    def host(self) -> bytes:
        """In lower case without port, empty for any host."""
        ...

    @property
    def prefix(self) -> bytes:
        """Of the path, as bytes; `/a/` also stands for all that is below."""
        ...


R = TypeVar("R", bound=Routed)


class Router(Generic[R]):
    """The routes by host and prefix. `match` finds one."""

    def __init__(self, routes: Iterable[R]) -> None:
        self._hosts: dict[bytes, dict[bytes, R]] = {}
        self._depth = 0
        for route in routes:
            self._hosts.setdefault(route.host, {})[route.prefix] = route
            self._depth = max(self._depth, route.prefix.count(b"/"))
        self._any = self._hosts.pop(b"", {})

    def match(self, host: bytes, path: bytes) -> R | None:
        """`path` is the origin-form target, query included; `host` as `gateway.syntax.hosts.host` spells it."""
        query = path.find(b"?")
        if query >= 0:
            path = path[:query]
        if self._hosts:
            routes = self._hosts.get(host)
            if routes is not None:
                route = self._longest(routes, path)
                if route is not None:
                    return route
        return self._longest(self._any, path)

    def _longest(self, routes: dict[bytes, R], path: bytes) -> R | None:
        candidate = path
        if path.count(b"/") > self._depth:
            # No prefix is deeper than this, so neither has a match to be looked for there.
            candidate = b"/".join(path.split(b"/", self._depth + 1)[: self._depth + 1])
        while candidate:
            route = routes.get(candidate)
            if route is not None:
                return route
            # "/a/b" -> "/a/" -> "/a" -> "/"
            candidate = candidate[:-1] if candidate[-1] == 0x2F else candidate[: candidate.rfind(b"/") + 1]
        return None

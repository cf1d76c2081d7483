"""Where a request is sent: an upstream, and the request head that it gets."""

from gateway.proxy.upstreams.upstream import Upstream


class Target:
    """`head` is complete. Its last line is `traceparent`, in which each attempt puts an id of its own."""

    __slots__ = ("head", "upstream")

    def __init__(self, upstream: Upstream, head: bytes) -> None:
        self.upstream = upstream
        self.head = head

    def __repr__(self) -> str:
        return f"<Target {self.upstream.name}>"

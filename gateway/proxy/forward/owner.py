"""What an attempt knows of whoever makes it (`gateway.proxy.forward.retries.Forward`)."""

from gateway.policy.retry import Failure, Retry
from gateway.proxy.forward.downstream import Downstream
from gateway.proxy.forward.target import Target
from gateway.proxy.gate import Chain
from gateway.proxy.requests.body import RequestBody
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.proxy.upstreams.upstream import Endpoint
from gateway.wire.message.response import Response


class Owner:
    """Who makes the attempts: what they have in common, and what is decided about them.

    `tried` are the endpoints of the attempts before, `head` is the request head of the present one. `total_deadline` is
    an instant of the monotonic clock. It is `total_timeout` seconds after the last movement of the request body.
    """

    __slots__ = (
        "body",
        "chain",
        "downstream",
        "head",
        "runtime",
        "target",
        "ticket",
        "total_deadline",
        "total_timeout",
        "tried",
    )

    runtime: Runtime
    ticket: Ticket
    target: Target
    body: RequestBody
    downstream: Downstream
    head: bytes
    chain: Chain
    tried: tuple[Endpoint, ...]
    total_deadline: float
    total_timeout: float

    def traced(self) -> None:
        """Something goes wrong that a trace should tell of: begin it, where nothing was to be noted before."""
        raise NotImplementedError

    def retry_after(self, response: Response, now: float) -> Retry | None:
        """Whether another attempt follows this answer, which is dropped then. HOT."""
        raise NotImplementedError

    def retry_lacking(self, now: float) -> Retry | None:
        """Whether another attempt follows one that this host could not even make."""
        raise NotImplementedError

    def again(self, retry: Retry) -> None:
        """Make another attempt; the present one is settled."""
        raise NotImplementedError

    def failed(self, failure: Failure, reason: str, detail: str, error: str | None, *, stale: bool, now: float) -> None:
        """The attempt came to nothing. `stale`: the pooled connection had died of old age."""
        raise NotImplementedError

    def no_connection(self, why: str, now: float) -> None:
        """There is none to be had here, and the upstream is not to blame."""
        raise NotImplementedError

    def ended(self) -> None:
        """The attempt's answer has gone to the client, or breaks off: nothing follows."""
        raise NotImplementedError

"""What the forwarder tells the exchange whose request it carries."""

from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusals import Refusal
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.message.response import Response


class Downstream:
    """Implemented by the exchange. It ends with `respond_whole`, `respond_end`, `truncated`, `refuse`, `refuse_answer`,
    `substitute` or `open_tunnel`, exactly one of them, and is told nothing after that."""

    __slots__ = ()

    def want_body(self, wanted: bool) -> None:
        """Whether more of the request body is to be read from the client now."""
        raise NotImplementedError

    def waits(self) -> None:
        """The request waits for a gate before an attempt. Its body is held meanwhile, unless the gate has to have all
        of it."""
        raise NotImplementedError

    def failed(self) -> None:
        """A defect of the gateway has stopped the request."""
        raise NotImplementedError

    def send_continue(self) -> None:
        """The body is wanted by the upstream: a client that waits for 100 may send it."""
        raise NotImplementedError

    @property
    def client_blocked(self) -> bool:
        """Whether the client takes nothing of the answer for now."""
        raise NotImplementedError

    def informational(self, response: Response) -> None:
        """A 1xx other than 101."""
        raise NotImplementedError

    def respond(self, response: Response) -> None:
        """The head of the answer; a body follows."""
        raise NotImplementedError

    def respond_body(self, data: bytes) -> None:
        """A piece of the body."""
        raise NotImplementedError

    def respond_pause(self) -> None:
        """Nothing more has arrived for now: what was collected is to be written."""
        raise NotImplementedError

    def respond_end(self) -> None:
        """The body is complete."""
        raise NotImplementedError

    def respond_whole(self, response: Response, body: bytes, now: float) -> None:
        """The answer in one piece. HOT."""
        raise NotImplementedError

    def truncated(self, reason: str, detail: str) -> None:
        """The upstream failed within the body of its answer."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal) -> None:
        """No answer comes from the upstream."""
        raise NotImplementedError

    def refuse_answer(self, refusal: Refusal) -> None:
        """The head of an answer has come, and the client gets this in its place. Only from hooks."""
        raise NotImplementedError

    def substitute(self, content: OwnAnswer) -> None:
        """No answer comes from an upstream, and the fallback of the route has this one. Only from a forwarder with a
        fallback."""
        raise NotImplementedError

    def may_tunnel(self, response: Response) -> bool:
        """Whether a 101 is the answer to what was asked."""
        raise NotImplementedError

    def open_tunnel(self, response: Response, upstream: UpstreamConnection, early: bytes) -> None:
        """The upstream has switched protocols; `early` came with its head."""
        raise NotImplementedError

"""A downstream that passes on what it is told. Who stands between forwarder and exchange overrides what it looks at."""

from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.forward.downstream import Downstream
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.message.response import Response


class PassingOn(Downstream):
    """Tells `to` everything."""

    __slots__ = ("to",)

    def __init__(self, to: Downstream) -> None:
        self.to = to

    def respond(self, response: Response) -> None:
        self.to.respond(response)

    def respond_whole(self, response: Response, body: bytes, now: float) -> None:
        """HOT."""
        self.to.respond_whole(response, body, now)

    def open_tunnel(self, response: Response, upstream: UpstreamConnection, early: bytes) -> None:
        self.to.open_tunnel(response, upstream, early)

    def want_body(self, wanted: bool) -> None:
        self.to.want_body(wanted)

    def waits(self) -> None:
        self.to.waits()

    def failed(self) -> None:
        self.to.failed()

    def send_continue(self) -> None:
        self.to.send_continue()

    @property
    def client_blocked(self) -> bool:
        return self.to.client_blocked

    def informational(self, response: Response) -> None:
        self.to.informational(response)

    def respond_body(self, data: bytes) -> None:
        self.to.respond_body(data)

    def respond_pause(self) -> None:
        self.to.respond_pause()

    def respond_end(self) -> None:
        self.to.respond_end()

    def truncated(self, reason: str, detail: str) -> None:
        self.to.truncated(reason, detail)

    def refuse(self, refusal: Refusal) -> None:
        self.to.refuse(refusal)

    def substitute(self, content: OwnAnswer) -> None:
        self.to.substitute(content)

    def may_tunnel(self, response: Response) -> bool:
        return self.to.may_tunnel(response)

    def refuse_answer(self, refusal: Refusal) -> None:
        self.to.refuse_answer(refusal)

"""Who takes a response as it arrives: the interface, how it may fail, and one that wants nothing of it."""

from enum import Enum

from mypy_extensions import mypyc_attr

from gateway.wire.message.response import Response


class Loss(Enum):
    """How an upstream failed after it was connected."""

    RESET = "reset"
    """It closed before any byte of the response head."""
    PROTOCOL = "protocol"
    """What arrived is not HTTP, or the head broke off."""
    TRUNCATED = "truncated"
    """It closed, or sent something malformed, within the body."""


@mypyc_attr(allow_interpreted_subclasses=True)
class ResponseSink:
    """Takes one response. The order of the calls is that of `gateway.wire.client.connection`.

    A class and no protocol: each response calls it, and a call of a class is what mypyc makes fast.
    """

    __slots__ = ()

    def informational(self, response: Response) -> None:
        """A 1xx other than 101."""
        raise NotImplementedError

    def response_head(self, response: Response) -> None:
        """The head; its body follows, or its end."""
        raise NotImplementedError

    def response_body(self, data: bytes) -> None:
        """A piece of the body."""
        raise NotImplementedError

    def response_pause(self) -> None:
        """No more of the body for now: what was collected for one write is to be written."""
        raise NotImplementedError

    def response_end(self) -> None:
        """The response is complete."""
        raise NotImplementedError

    def response_whole(self, response: Response, body: bytes) -> None:
        """Head, body and end in one. HOT."""
        raise NotImplementedError

    def switched(self, response: Response, early: bytes) -> None:
        """101: from here on the bytes are another protocol's; `early` came with the head. The sink takes over the
        transport."""
        raise NotImplementedError

    def upstream_lost(self, loss: Loss, detail: str) -> None:
        """The response will never be complete."""
        raise NotImplementedError

    def request_blocked(self) -> None:
        """The upstream takes no more of the request for now."""
        raise NotImplementedError

    def request_ready(self) -> None:
        """The upstream takes more of the request."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class Nobody(ResponseSink):
    """Takes a response that nobody wants."""

    __slots__ = ()

    def informational(self, response: Response) -> None:
        """Not wanted."""

    def response_head(self, response: Response) -> None:
        """Not wanted."""

    def response_body(self, data: bytes) -> None:
        """Not wanted."""

    def response_pause(self) -> None:
        """Not wanted."""

    def response_end(self) -> None:
        """Not wanted."""

    def response_whole(self, response: Response, body: bytes) -> None:
        """Not wanted."""

    def switched(self, response: Response, early: bytes) -> None:
        """Not wanted."""

    def upstream_lost(self, loss: Loss, detail: str) -> None:
        """Not wanted."""

    def request_blocked(self) -> None:
        """Not wanted."""

    def request_ready(self) -> None:
        """Not wanted."""

"""Who takes a response as it arrives: the interface, how it may fail, and one that wants nothing of it."""

from enum import Enum
from typing import Protocol

from gateway.wire.message.response import Response


class Loss(Enum):
    """How an upstream failed after it was connected."""

    RESET = "reset"  # closed before any byte of the response head
    PROTOCOL = "protocol"  # what arrived is not HTTP, or the head broke off
    TRUNCATED = "truncated"  # closed, or malformed, within the body


class ResponseSink(Protocol):
    def informational(self, response: Response) -> None:
        """A 1xx other than 101."""
        ...

    def response_head(self, response: Response) -> None: ...

    def response_body(self, data: bytes) -> None: ...

    def response_pause(self) -> None:
        """No more of the body for now: what was collected for one write is to be written."""
        ...

    def response_end(self) -> None: ...

    def response_whole(self, response: Response, body: bytes) -> None:
        """Head, body and end in one."""
        ...

    def switched(self, response: Response, early: bytes) -> None:
        """101: from here on the bytes are another protocol's; `early` came with the head. The sink takes over the
        transport."""
        ...

    def upstream_lost(self, loss: Loss, detail: str) -> None: ...

    def request_blocked(self) -> None:
        """The upstream takes no more of the request for now."""
        ...

    def request_ready(self) -> None: ...


class Nobody:
    """Takes a response that nobody wants."""

    def informational(self, response: Response) -> None:
        pass

    def response_head(self, response: Response) -> None:
        pass

    def response_body(self, data: bytes) -> None:
        pass

    def response_end(self) -> None:
        pass

    def response_pause(self) -> None:
        pass

    def request_blocked(self) -> None:
        pass

    def request_ready(self) -> None:
        pass

    def response_whole(self, response: Response, body: bytes) -> None:
        pass

    def switched(self, response: Response, early: bytes) -> None:
        pass

    def upstream_lost(self, loss: Loss, detail: str) -> None:
        pass

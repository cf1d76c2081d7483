"""What stands behind the connections, as the wire sees it: a front that takes requests, and an exchange for each."""

from typing import TYPE_CHECKING, Protocol

from gateway.wire.message.request import Request, RequestError

if TYPE_CHECKING:
    from gateway.wire.server.connection import ServerConnection


class Exchange(Protocol):
    """What a connection tells the exchange that it carries."""

    def request_body(self, data: bytes) -> None: ...

    def request_end(self) -> None: ...

    def request_failed(self, error: RequestError) -> None:
        """The request body is malformed, or one of the bodies moves too slowly; no more will come."""
        ...

    def client_gone(self) -> None:
        """Nothing can be answered any more."""
        ...

    def gateway_stops(self) -> None:
        """There is no more time for this exchange."""
        ...

    def pause_answer(self) -> None:
        """The client takes no more of the response for now."""
        ...

    def resume_answer(self) -> None: ...


class Front(Protocol):
    """What stands behind the connections: it makes exchanges of requests."""

    def begin(self, connection: "ServerConnection", request: Request) -> Exchange | None:
        """Take a request. None when it was answered, or the connection handed over, at once."""
        ...

    def reject(self, connection: "ServerConnection", error: RequestError) -> None:
        """Answer a request whose head cannot be understood; the connection closes after it."""
        ...

    def overflow(self, connection: "ServerConnection", request: Request) -> None:
        """Answer the request of a connection beyond the maximum; it closes after it."""
        ...

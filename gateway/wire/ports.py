"""What the connections of clients and the application behind them ask of each other.

    Connection   what an exchange does with the connection that its request came on
    Front        takes the requests of all connections, and makes an exchange of each
    Exchange     what a connection tells the exchange whose request it carries

Nothing here knows an implementation, so both sides can import this module and neither has to import the other.

`Connection` and `Front` are classes and no protocols: each request calls them, and a call of a class is what mypyc
makes fast.
"""

import asyncio
from typing import Protocol

from mypy_extensions import mypyc_attr

from gateway.wire.message.request import Request, RequestError


@mypyc_attr(allow_interpreted_subclasses=True)
class Connection(asyncio.Protocol):
    """One client connection (gateway.wire.server.connection).

    `peer` is the client's address. `write_blocked` says that the client takes nothing for now.
    `scratch` is the front's, for what it keeps for each connection.
    """

    __slots__ = ("peer", "scratch", "write_blocked")

    peer: str
    scratch: object
    write_blocked: bool

    # What the exchange asks.

    @property
    def scheme(self) -> str:
        """`http`, or `https` over TLS."""
        raise NotImplementedError

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry another request after this response, as far as is known at its head."""
        raise NotImplementedError

    def write(self, data: bytes) -> None:
        """Write a part of the response."""
        raise NotImplementedError

    def pause_reading(self) -> None:
        """The request body is not wanted for now: read no more of it, so that the client stops sending."""
        raise NotImplementedError

    def resume_reading(self) -> None:
        """The request body is wanted again."""
        raise NotImplementedError

    def answer(self, response: bytes, now: float, keep_alive: bool) -> None:
        """Write a whole response and finish the request. HOT."""
        raise NotImplementedError

    def finish(self, now: float, *, keep_alive: bool) -> None:
        """The response is written to its end. `keep_alive` is what its head promised."""
        raise NotImplementedError

    def break_off(self, *, reset: bool) -> None:
        """The response cannot be finished: let the client see that it is truncated. With `reset` what is still
        buffered is lost. That is needed where the client would take an orderly close for the end of the body."""
        raise NotImplementedError

    def hand_over(self) -> tuple[asyncio.Transport, bytes]:
        """Give the transport away, with the bytes of the current request and all that follows it. Only from within
        `Front.begin` and `Front.overflow`; the transport's next protocol reports nothing back here."""
        raise NotImplementedError

    def detach(self) -> tuple[asyncio.Transport, bytes]:
        """Give the transport away after the request (a tunnel), with what has arrived after it."""
        raise NotImplementedError

    # What the listener asks (gateway.wire.server.registry, gateway.wire.server.places).

    @property
    def quiet_since(self) -> float | None:
        """Since when, on the monotonic clock, its client has not had a request; None while it has one."""
        raise NotImplementedError

    @property
    def spoken(self) -> bool:
        """Whether a request has come from it, ever."""
        raise NotImplementedError

    @property
    def unread(self) -> bool:
        """Whether bytes have arrived that are not yet read. Asks the kernel."""
        raise NotImplementedError

    def close_if_idle(self, since: float) -> None:
        """Close if the client has not had a request after the instant `since`."""
        raise NotImplementedError

    def give_up(self) -> None:
        """The gateway stops and waits no longer: an exchange without an answer gets one, and one with a part of it
        ends."""
        raise NotImplementedError

    def abort(self) -> None:
        """Close at once."""
        raise NotImplementedError


class Exchange(Protocol):
    """What a connection tells the exchange that it carries."""

    def request_body(self, data: bytes) -> None:
        """A piece of the request body has arrived."""
        ...

    def request_end(self) -> None:
        """The request is complete."""
        ...

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

    def resume_answer(self) -> None:
        """The client takes more of the response."""
        ...


@mypyc_attr(allow_interpreted_subclasses=True)
class Front:
    """What stands behind the connections: it makes exchanges of requests."""

    def begin(self, connection: Connection, request: Request) -> Exchange | None:
        """Take a request. None when it was answered, or the connection handed over, at once."""
        raise NotImplementedError

    def reject(self, connection: Connection, error: RequestError) -> None:
        """Answer a request whose head cannot be understood; the connection closes after it."""
        raise NotImplementedError

    def overflow(self, connection: Connection, request: Request) -> None:
        """Answer the request of a connection beyond the maximum; it closes after it."""
        raise NotImplementedError

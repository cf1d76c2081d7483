"""The half of an upstream connection that faces its transport: writing, reading on and off, and what the kernel knows.

It knows no messages and no pool. The other half is in `gateway.wire.client.connection`.
"""

import asyncio
import os
import time
from collections.abc import Callable, Iterator
from typing import cast

from mypy_extensions import mypyc_attr

from gateway.wire.client.lifetime import Closed, watch, what_came
from gateway.wire.kernel import unsent
from gateway.wire.leftovers import NO_FILE, leftovers, spare_file
from gateway.wire.reading import Reading


@mypyc_attr(allow_interpreted_subclasses=True)
class TransportHalf(asyncio.Protocol):
    """`closed` says that the connection is over for its owner, `write_blocked` that the upstream takes nothing now.
    `usable_until` is the instant at which the upstream closes it when it is idle, less a margin, as it has announced.
    """

    __slots__ = (
        "_poll",
        "_reading",
        "_spare",
        "_tls",
        "_transport",
        "_uploaded",
        "closed",
        "usable_until",
        "write_blocked",
    )

    # From `connection_made` on.
    _transport: asyncio.Transport
    _reading: Reading
    _poll: Callable[[int], list[tuple[int, int]]]

    def __init__(self) -> None:
        self.closed = False
        self.write_blocked = False
        # None unless the upstream has announced how long it waits.
        self.usable_until: float | None = None
        self._tls = False
        # Bytes of the present request's body that were written.
        self._uploaded = 0
        # While a body is uploaded over TLS: see gateway.wire.leftovers.
        self._spare = NO_FILE

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The upstream is connected, over TLS the handshake is complete."""
        self._transport = cast(asyncio.Transport, transport)
        self._reading = Reading(self._transport, asyncio.get_running_loop())
        self._tls = transport.get_extra_info("ssl_object") is not None
        self._poll = watch(transport)

    def write(self, body: bytes) -> None:
        """A piece of the request body. HOT."""
        if self._tls and self._spare == NO_FILE:
            self._spare = spare_file(self._transport)
        self._uploaded += len(body)
        self._transport.write(body)

    @property
    def unsent(self) -> int:
        """Bytes of the request that the upstream has not taken yet; -1 when that is not to be known."""
        return unsent(self._transport)

    def pause_reading(self) -> None:
        """The response body is not wanted for now: read no more of it, so that the upstream stops sending."""
        if not self.closed:
            self._reading.stop()

    def resume_reading(self) -> None:
        """The response body is wanted again."""
        if not self.closed:
            self._reading.start()

    def fault(self) -> Closed | None:
        """Why this idle connection must not be used; None if it may. Asks the kernel: the loop may be late. HOT."""
        if self.usable_until is not None and time.monotonic() >= self.usable_until:
            return Closed.IDLE
        if self._tls:
            # uvloop forgets the socket of a connection that is over a turn of the loop before it tells of the end.
            sock = self._transport.get_extra_info("socket")
            if sock is None or sock.fileno() < 0:
                return Closed.UPSTREAM
        events = self._poll(0)
        return what_came(self._transport, events[0][1], tls=self._tls) if events else None

    def _left_over(self) -> Iterator[bytes]:
        """What had arrived before the connection broke. An empty piece says that TLS was ended in order."""
        return leftovers(self._transport, self._spare)

    def _close_spare(self) -> None:
        spare, self._spare = self._spare, NO_FILE
        if spare != NO_FILE:
            os.close(spare)

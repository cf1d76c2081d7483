"""Where a body ends that is arriving: after so many bytes, or with its last chunk (RFC 9112 section 6.3)."""

from typing import Final

from gateway.wire.message.chunked import ChunkedDecoder

# Of a body that nobody wants this much is read, to save the connection.
_DRAIN_BYTES: Final = 65_536


class IncomingBody:
    """One body that is arriving, of a request or a response. `done` says that it has arrived to its end."""

    __slots__ = ("_decoder", "_remaining", "done")

    def __init__(self, *, chunked: bool, length: int) -> None:
        """`length` counts the bytes of a body that is not chunked."""
        self._decoder = ChunkedDecoder() if chunked else None
        self._remaining = length
        self.done = False

    def __repr__(self) -> str:
        what = "chunked" if self._decoder is not None else f"remaining={self._remaining}"
        return f"<IncomingBody {'done' if self.done else what}>"

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks."""
        return self._decoder is not None

    @property
    def short(self) -> bool:
        """Whether so little is left that reading it costs less than a new connection. Of chunks nobody knows."""
        return self._decoder is None and self._remaining <= _DRAIN_BYTES

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """The payload in `data`, and what follows the end of the body. Raises ChunkedError."""
        decoder = self._decoder
        if decoder is not None:
            payload, rest = decoder.feed(data)
            self.done = decoder.done
            return payload, rest
        left = self._remaining - len(data)
        if left > 0:
            self._remaining = left
            return data, b""
        self._remaining = 0
        self.done = True
        if left < 0:
            return data[:left], data[left:]
        return data, b""

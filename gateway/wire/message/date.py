"""The Date field, encoded once a second (RFC 9110 section 6.6.1)."""

from email.utils import formatdate


class DateLine:
    """The field as a complete line, kept for as long as it is right."""

    __slots__ = ("_line", "_next", "_second")

    def __init__(self) -> None:
        self._second = 0
        self._next = 0
        self._line = b""

    def at(self, wall: float) -> bytes:
        """The line for `wall`, in seconds since the epoch. HOT."""
        if not self._second <= wall < self._next:
            self._second = int(wall)
            self._next = self._second + 1
            self._line = b"Date: %b\r\n" % formatdate(self._second, usegmt=True).encode()
        return self._line


date_line = DateLine().at

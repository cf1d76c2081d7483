"""The heads that have come more than once, over all connections of a listener: each is parsed and planned once.

A connection keeps its last head (`gateway.wire.message.head_reader`), which is enough for a client with a connection of
its own. Behind a proxy the clients take turns on each connection, and a client may open a connection for each request:
then the head that repeats is not the last one. Here it is found, by the peer and all of its bytes.

Two generations. What is found in the older one moves to the present one; when that is full it becomes the older one,
and what was not asked for since then is forgotten. So a hit costs one look-up and keeps no order.

Most heads that are new never come again (they have an id in them, or a time). So a head is kept from its second time
on: at the first one, one byte of a table is set. Heads whose hashes end alike share a byte, and one of them is then
kept from its first time on.
"""

from typing import Final

from gateway.wire.message.request import Request

_Key = tuple[str, bytes]

# What is derived from a head (fields, plan, the head for the upstream, a piece of the log line), as tracemalloc has it:
# 2.2 KB for one of 90 bytes, 2.8 KB for one of 330.
_OBJECTS: Final = 2048
_TIMES: Final = 4
_MARKS: Final = 1 << 18
# A head that comes for the first time is taken for one that has come before in a quarter of the cases at most.
_MOST_MARKED: Final = _MARKS // 4


class KnownHeads:
    """Room for `room` bytes, with all that is derived from the heads."""

    __slots__ = ("_half", "_left", "_marked", "_marks", "_older", "_present")

    def __init__(self, room: int = 32 * 1024 * 1024) -> None:
        self._half = self._left = room // 2
        self._present: dict[_Key, Request] = {}
        self._older: dict[_Key, Request] = {}
        self._marks = bytearray(_MARKS)
        self._marked = 0

    def __len__(self) -> int:
        return len(self._present) + len(self._older)

    def find(self, peer: str, head: bytes) -> Request | None:
        """The request that was made of this head when `peer` sent it before; None when it is not known. HOT."""
        key = peer, head
        request = self._present.get(key)
        if request is None:
            request = self._older.pop(key, None)
            if request is not None:
                self._keep(key, request)
        return request

    def note(self, peer: str, head: bytes, request: Request) -> None:
        """A head has been parsed, because it was not known."""
        key = peer, head
        mark = hash(key) % _MARKS
        if self._marks[mark]:
            self._keep(key, request)
            return
        if self._marked >= _MOST_MARKED:
            self._marks = bytearray(_MARKS)
            self._marked = 0
        self._marks[mark] = 1
        self._marked += 1

    def _keep(self, key: _Key, request: Request) -> None:
        size = _OBJECTS + _TIMES * len(key[1])
        if size > self._left:
            self._older = self._present
            self._present = {}
            self._left = self._half
        self._left -= size
        self._present[key] = request

"""Reading connections in turns: peers that send much give way to everybody else after each large read.

libuv reads one socket up to 32 times in a turn of the event loop, as long as each read fills its buffer, and uvloop's
buffer holds 256,000 bytes. So a peer with a full receive buffer would have 8 MB of its bytes handled before anybody
else is heard, which takes seconds when they are chunks or frames of one byte. A connection that is paused within
`data_received` is not read again in that turn: after a large read it rests, and queues for a later one.

How many of those that queue are read in a turn follows from what they cost: twice as many as in the turn before while
a turn takes less than `_SHORT_TURN` of the processor's time, half as many when it takes more than `_LONG_TURN`. So a
peer gains nothing from more connections, and large bodies that merely pass through are read at full speed.

Under TLS a large read of the socket can be a few bytes of data, in thousands of records. So there every read counts as
large, and what the transport may collect while it rests is one read. OpenSSL's buffer for it grows to that, and never
shrinks again while the connection lives.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final
from weakref import WeakKeyDictionary

# Reads below uvloop's 256,000 bytes are the last ones of their turn anyway. This is less, because many connections
# with a little less than this each are not to make a long turn either.
_LARGE_READ: Final = 16_384

# Bytes that are passed on without being looked at cost a tenth of a millisecond a read: so many reads of them count as
# one. A turn of the loop for each would cost a large body a fifth of its speed.
_PASSED_AT_ONCE: Final = 4

_SHORT_TURN: Final = 0.002
_LONG_TURN: Final = 0.004
_MOST_IN_A_TURN: Final = 64


class Turns:
    """The queue of one event loop. `clock` is that of the processor's time."""

    __slots__ = ("_clock", "_loop", "_queue", "_since", "_waiting", "width")

    def __init__(self, loop: asyncio.AbstractEventLoop, clock: Callable[[], float] = time.thread_time) -> None:
        self._loop = loop
        self._clock = clock
        self._queue: OrderedDict[Reading, None] = OrderedDict()
        self._waiting = False
        self._since = 0.0
        self.width = 1

    def queue(self, reading: "Reading") -> None:
        """Have `reading` read again in a later turn of the loop."""
        self._queue[reading] = None
        if not self._waiting:
            self._waiting = True
            self._since = self._clock()
            self._loop.call_soon(self._next)

    def drop(self, reading: "Reading") -> None:
        """It needs no turn any more."""
        self._queue.pop(reading, None)

    def _next(self) -> None:
        """A turn of the loop has passed since the first one queued."""
        queue = self._queue
        now = self._clock()
        spent, self._since = now - self._since, now
        if spent > _LONG_TURN:
            self.width = max(1, self.width // 2)
        elif spent < _SHORT_TURN:
            self.width = min(_MOST_IN_A_TURN, self.width * 2)
        for _ in range(min(self.width, len(queue))):
            queue.popitem(last=False)[0].rested()
        self._waiting = bool(queue)
        if queue:
            self._loop.call_soon(self._next)


_turns: WeakKeyDictionary[asyncio.AbstractEventLoop, Turns] = WeakKeyDictionary()


def _turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    turns = _turns.get(loop)
    if turns is None:
        turns = _turns[loop] = Turns(loop)
    return turns


class Reading:
    """The reading of one transport.

    `stop` and `start` are for who uses the bytes, `rest` is for the turn. `large` is the size of a read after which
    `rest` or `passed` is to be called, before the bytes are handled.
    """

    __slots__ = ("_passed", "_resting", "_transport", "_turns", "large", "stopped")

    def __init__(
        self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop, turns: Turns | None = None
    ) -> None:
        self._transport = transport
        self._turns = turns or _turns_of(loop)
        self._resting = False
        self._passed = 0
        self.stopped = False
        self.large = _LARGE_READ
        if transport.get_extra_info("sslcontext") is not None:
            self.large = 0
            # Of uvloop's transport; typeshed knows those of asyncio.
            transport.set_read_buffer_limits(high=_LARGE_READ)  # type: ignore[attr-defined]

    def stop(self) -> None:
        """Its user wants no bytes for now."""
        if not self.stopped:
            self.stopped = True
            if not self._resting:
                self._transport.pause_reading()

    def start(self) -> None:
        """Its user wants bytes again; they come when its turn has come."""
        if self.stopped:
            self.stopped = False
            if not self._resting:
                self._resume()

    def passed(self) -> None:
        """A large read of bytes that are only passed on: every fourth is followed by a rest, under TLS each."""
        self._passed += 1
        if self._passed >= _PASSED_AT_ONCE or not self.large:
            self._passed = 0
            self.rest()

    def rest(self) -> None:
        """Read no more in this turn of the loop."""
        if not self._resting and not self._transport.is_closing():
            self._resting = True
            if not self.stopped:
                self._transport.pause_reading()
            self._turns.queue(self)

    def rested(self) -> None:
        """It is this one's turn again."""
        if self._resting:
            self._resting = False
            if not self.stopped:
                self._resume()

    def end(self) -> None:
        """The transport is closed. While it stands in a long queue, none of its buffers would be freed."""
        if self._resting:
            self._resting = False
            self._turns.drop(self)

    def leave(self) -> None:
        """The transport goes to another protocol, which expects it to be read."""
        if self.stopped or self._resting:
            self.stopped = self._resting = False
            self._resume()

    def _resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

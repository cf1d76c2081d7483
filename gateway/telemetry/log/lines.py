"""Lines on their way to a file descriptor, without the event loop ever waiting for it.

`write` appends to a list; one thread takes the list every `batch_delay` seconds, or as soon as `batch_bytes` are in it,
and writes it out in order. When whoever reads the descriptor is slow, lines are held up to `capacity_bytes` (those in
the thread's hands included); beyond that they are dropped and counted, and a warning says how many once there is room.

    accepted = settled (written, or lost to a failing descriptor) + held

Several processes may write to one pipe or socket, and each line comes out whole, however long it is: whoever writes a
batch holds a lock on the descriptor (a record lock of fcntl(2), which the kernel takes from a process that dies). Where
there are no such locks, or another process has kept it for `_LOCK_PATIENCE` seconds (it is stopped, or nobody reads),
pieces of whole lines are written instead, of `PIPE_BUF` bytes at most, which no other write to a pipe cuts in two
(POSIX, write); a line that is longer may then have another one in its middle. Such pieces alone would do for short
lines, but not for many: a thread has to wait for the interpreter after each write, and 4 KiB at a time were 2 to 14 MB
a second beside a busy event loop. A regular file needs no lock: one write goes into it as a whole.

No lock: with one a line costs twice as much, and a destructor that logs while the lock is held would deadlock. Instead
every variable has one side that writes it (`_accepted` the callers, `_settled` the thread), the list is a `deque` and
the doorbell a `SimpleQueue`, whose operations are atomic and may be re-entered. Callers on several threads may lose an
addition to `_accepted` on an interpreter that can switch there (CPython with a GIL cannot); the thread sets the two
equal whenever it finds nothing left, so such an error does not last.
"""

import errno
import fcntl
import logging
import os
import select
import stat
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue
from typing import Final

from mypy_extensions import mypyc_attr

_log: Final = logging.getLogger(__name__)

_SLICE: Final = 512  # lines joined for one system call: some 200 KiB, so that a long backlog is not copied at once
_IDLE: Final = -1
# Beyond any number of bytes, and still small enough for the compiler to keep in a register.
_RUNG: Final = 1 << 61
_NOTHING: Final = -(1 << 61)
_LOCK_PATIENCE: Final = 15.0  # seconds: a worker that is stopped is killed before
_LOCK_POLL: Final = 0.005
_POLL: Final = 0.1  # seconds between looks at `_abandoned` while a non-blocking descriptor takes nothing


@mypyc_attr(allow_interpreted_subclasses=True)
class LineWriter:
    """Writes complete lines, each ending in a newline, from any thread, in the order in which they came.

    A descriptor that fails (a closed pipe, a full disk) loses the lines of that moment, never raises, and is tried
    again with the next batch; a line that was cut short is ended first, so that the next one is whole.
    """

    __slots__ = (
        "_abandoned",
        "_accepted",
        "_batch_bytes",
        "_batch_delay",
        "_bell",
        "_capacity_bytes",
        "_closing",
        "_fd",
        "_lines",
        "_lockable",
        "_reported",
        "_ring_at",
        "_settled",
        "_shared",
        "_torn",
        "_writing",
        "dropped",
    )

    def __init__(
        self,
        fd: int,
        *,
        capacity_bytes: int = 16 * 1024 * 1024,
        batch_bytes: int = 64 * 1024,
        batch_delay: float = 0.1,
    ) -> None:
        self.dropped = 0
        """Lines lost so far."""
        self._fd = fd
        self._capacity_bytes = capacity_bytes
        self._batch_bytes = batch_bytes
        self._batch_delay = batch_delay
        self._bell: SimpleQueue[None] = SimpleQueue()
        self._lines: deque[bytes] = deque()
        self._accepted = 0
        self._settled = 0
        self._ring_at = _IDLE
        self._reported = 0
        self._torn = False
        self._shared = self._lockable = _is_stream(fd)
        self._closing = False
        self._abandoned = False
        self._writing = threading.Thread(target=self._run, name="log-lines", daemon=True)
        self._writing.start()

    def write(self, line: bytes) -> None:
        """HOT. Waits for nothing, whatever the descriptor does. Drops the line if there is no room or after `close`."""
        accepted = self._accepted + len(line)
        if accepted - self._settled > self._capacity_bytes:
            self.dropped += 1
            return
        self._accepted = accepted
        self._lines.append(line)
        # After the append: if the bell was rung already, the thread will look at the list once more.
        if accepted >= self._ring_at:
            self._ring(accepted)

    def close(self, timeout: float = 2.0) -> bool:
        """Write what is left and stop, waiting (blocking) at most `timeout` seconds for the descriptor.

        Returns False when that took too long. What could not be written is lost, and counted in `dropped`. Idempotent.
        """
        self._capacity_bytes = _NOTHING
        self._closing = True
        self._bell.put(None)
        self._bell.put(None)
        self._writing.join(timeout)
        if not self._writing.is_alive():
            return True
        self._abandoned = True
        self.dropped += len(self._lines)
        self._lines.clear()
        return False

    def _ring(self, accepted: int) -> None:
        """Wake the thread: for the first line of a batch, and once more when the batch is full. One wake-up too many
        only makes a batch shorter."""
        self._ring_at = accepted + self._batch_bytes if self._ring_at == _IDLE else _RUNG
        self._bell.put(None)

    def _run(self) -> None:
        while True:
            self._bell.get()
            if not self._closing:
                with suppress(Empty):
                    self._bell.get(timeout=self._batch_delay)
            closing = self._closing
            # Before the look at the lines: a line that comes after the look rings again.
            self._ring_at = _IDLE
            whole = True
            for _ in range(0, len(self._lines), _SLICE):
                batch = [self._lines.popleft() for _ in range(min(_SLICE, len(self._lines)))]
                whole = self._put(b"".join(batch)) and whole
            if not self._lines:
                self._settled = self._accepted
            if closing:
                return
            if whole:
                self._report()

    def _put(self, lines: bytes) -> bool:
        chunk = b"\n" + lines if self._torn else lines
        rest = memoryview(chunk)
        try:
            with self._turn_of_ours() as undisturbed:
                while rest and not self._abandoned:
                    end = len(rest) if undisturbed else _whole_lines(rest)
                    try:
                        # Not within the brackets: compiled, it would be written twice.
                        sent = os.write(self._fd, rest[:end])
                        rest = rest[sent:]
                    except BlockingIOError:
                        self._await_room()
        except OSError as error:
            self._failed(error)
        written = len(chunk) - len(rest)
        lost = bytes(rest).count(b"\n")
        if written:
            self._torn = chunk[written - 1] != 0x0A
        elif self._torn:
            lost -= 1  # the newline put in front ends no line of this chunk
        self._settled += len(lines)
        self.dropped += lost
        return not lost

    def _failed(self, error: OSError) -> None:
        """The descriptor has failed. Where lines go to nothing else there is nobody to tell."""

    @contextmanager
    def _turn_of_ours(self) -> Iterator[bool]:
        """Whether no other process writes meanwhile."""
        if not self._shared:
            yield True
            return
        locked = self._lockable and self._lock()
        try:
            yield locked
        finally:
            if locked:
                fcntl.lockf(self._fd, fcntl.LOCK_UN)

    def _lock(self) -> bool:
        end = time.monotonic() + _LOCK_PATIENCE
        while not self._abandoned:
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    self._lockable = False
                    return False
            else:
                return True
            if time.monotonic() >= end:
                return False
            time.sleep(_LOCK_POLL)
        return False

    def _report(self) -> None:
        """Say through logging how many lines were lost. Most likely that goes into this writer, which has room
        again."""
        unreported = self.dropped - self._reported
        if unreported:
            self._reported = self.dropped
            _log.warning("log lines were dropped", extra={"lines": unreported})

    def _await_room(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        poll.poll(_POLL * 1000)


def _is_stream(fd: int) -> bool:
    """Whether it is a pipe or a socket, where what several processes write may mix."""
    try:
        mode = os.fstat(fd).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)


def _whole_lines(data: memoryview) -> int:
    """The length of as many whole lines from the start as are written at once; at least one line."""
    end = bytes(data[: select.PIPE_BUF]).rfind(b"\n")
    if end >= 0:
        return end + 1
    end = bytes(data).find(b"\n")
    return end + 1 if end >= 0 else len(data)

"""The body of one request: what has arrived of it, what is held, and whether it can be sent again.

    held     nobody takes it yet: the client's connection is not read meanwhile, so this costs about one read
    taken    an attempt sends it; it stays held for a repetition while all of it is at most `keep` bytes
    gone     some of it was sent and not kept: the request cannot be repeated

`collect` holds the whole body, up to a limit, for those who have to see all of it before it is sent (validation); a
collected body can always be repeated.
"""

import time
from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

Collected = Callable[[bytes | None], None]
"""Called with the whole body, or with None when it is larger than the limit."""


@mypyc_attr(allow_interpreted_subclasses=True)
class BodyCopy:
    """Whoever wants what arrives of a body, too, without a say in it."""

    __slots__ = ()

    def take(self, data: bytes) -> None:
        """A piece has arrived that is wanted or sent. HOT."""
        raise NotImplementedError

    def complete(self, received: int) -> None:
        """All of it has arrived, `received` bytes; what nobody wanted any more was not told."""
        raise NotImplementedError

    def incomplete(self) -> None:
        """The exchange is over, and the rest does not come."""
        raise NotImplementedError


class RequestBody:
    """`received` counts what has arrived, in bytes; `done` says that this is all. `replayable` says that everything
    that was sent is still held. `keep` is the most that is kept for a repetition; 0 keeps nothing. While somebody is
    `collecting` the body, the client goes on being read. `ended_at` is the instant of the monotonic clock at which a
    collected body was complete, and 0 for a body that nobody collects: the time limit of the upstream begins then.
    `copy` is given each piece that arrives from now on; None where the request is not mirrored."""

    __slots__ = ("_collected", "_limit", "copy", "done", "ended_at", "held", "keep", "received", "replayable")

    def __init__(self, keep: int, done: bool = False) -> None:
        self.done = done
        self.keep = keep
        self.received = 0
        self.ended_at = 0.0
        self.replayable = True
        self.held: list[bytes] = []
        self._limit = 0
        self._collected: Collected | None = None
        self.copy: BodyCopy | None = None

    def __repr__(self) -> str:
        state = "done" if self.done else "arriving"
        return f"<RequestBody {state} received={self.received} held={sum(map(len, self.held))}>"

    @property
    def collecting(self) -> bool:
        """Whether somebody waits to have all of it."""
        return self._collected is not None

    def hold(self, data: bytes) -> None:
        """A piece has arrived that nobody takes yet."""
        self.held.append(data)
        if self.copy is not None:
            self.copy.take(data)
        collected = self._collected
        if collected is not None and self.received > self._limit:
            self._collected = None
            self.ended_at = time.monotonic()
            collected(None)

    def end(self) -> None:
        """All of it has arrived."""
        self.done = True
        copy, self.copy = self.copy, None
        if copy is not None:
            copy.complete(self.received)
        collected, self._collected = self._collected, None
        if collected is not None:
            self.ended_at = time.monotonic()
            collected(b"".join(self.held))

    def collect(self, limit: int, collected: Collected) -> None:
        """Call `collected` once with the whole body, at once or when it has arrived; with None as soon as it is larger
        than `limit` bytes."""
        if self.done:
            collected(b"".join(self.held) if self.received <= limit else None)
        elif self.received > limit:
            collected(None)
        else:
            self.keep = max(self.keep, limit)
            self._limit = limit
            self._collected = collected

    def sent(self) -> None:
        """Everything held was sent: let go of it, unless it may be sent again and is small enough."""
        if self.held and self.received > self.keep:
            self.replayable = False
            self.held.clear()

    def pass_on(self, data: bytes) -> None:
        """A piece has arrived and is being sent: keep it for a repetition where that is possible. HOT."""
        if self.copy is not None:
            self.copy.take(data)
        if self.replayable:
            self.held.append(data)
            self.sent()

    def forget(self) -> None:
        """The exchange is over."""
        self.held.clear()
        self._collected = None
        copy, self.copy = self.copy, None
        if copy is not None:
            copy.incomplete()


NO_BODY: Final = RequestBody(0, done=True)
"""The body of every request that has none. Nothing ever arrives of it, so it never changes."""

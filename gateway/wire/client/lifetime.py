"""How long a connection to an upstream is used, and whether it can be used again.

A connection that no request uses any more is closed when the first of these applies:

    it has carried `requests` requests, or is `age` seconds old (each less up to 10 %, drawn for every connection, so
    that connections that were made together do not end together);
    it has been idle for `idle` seconds, or, if the upstream announced `Keep-Alive: timeout=T`, for T less a margin;
    the upstream announced `Keep-Alive: max=N`, and N - 1 more requests have been sent;
    the upstream has closed it, or has sent bytes that nobody asked for.

The last is looked for right before each use as well. The event loop may not have read yet what has arrived, when it is
busy or the process was stopped. A request on such a connection would fail, or get bytes that were not meant for it
(RFC 9112 section 6.3: they must not be taken for its answer).
"""

import asyncio
import random
import select
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.wire.kernel import unread

_NEVER: Final = float("inf")
_JITTER: Final = 0.1


class Closed(Enum):
    """Why a connection was closed while no request used it."""

    IDLE = "idle"
    AGE = "age"
    REQUESTS = "requests"
    ADDRESS = "address_gone"
    UPSTREAM = "closed_by_upstream"
    UNASKED = "unasked_bytes"


@dataclass(frozen=True, slots=True)
class Lifetime:
    """Bounds for each connection: seconds of idleness, seconds since it was made, requests. 0 for `age` and `requests`
    means no bound."""

    idle: float = 30.0
    age: float = 3600.0
    requests: int = 1000

    def draw(self, now: float, rng: random.Random) -> tuple[float, float]:
        """For a new connection: the instant after which it is not used again, and the number of its requests."""
        expires = now + self.age * (1.0 - _JITTER * rng.random()) if self.age else _NEVER
        requests = self.requests - int(self.requests * _JITTER * rng.random()) if self.requests else _NEVER
        return expires, requests


def watch(transport: asyncio.BaseTransport) -> Callable[[int], list[tuple[int, int]]]:
    """What asks the kernel, in one system call and without reading, whether a transport has got something: called with
    0, it is empty while there is nothing."""
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN | select.POLLRDHUP)
    return poll.poll


def what_came(transport: asyncio.BaseTransport, events: int, *, tls: bool) -> Closed:
    """What the kernel's events on an idle connection mean. Over TLS bytes cannot be told apart without reading them: a
    close_notify, a ticket of the session, an answer nobody asked for. With an end behind them they count as a close."""
    ended = events & ~select.POLLIN
    if (tls and ended) or not unread(transport):
        return Closed.UPSTREAM
    return Closed.UNASKED

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
import re
import select
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from gateway.wire.kernel import unread

_NEVER = float("inf")
_JITTER = 0.1
# The upstream's clock for its timeout starts and ends earlier than ours by the time on the way.
_MARGIN = 1.0
_PARAMETER = re.compile(rb"[ \t]*(timeout|max)[ \t]*=[ \t]*\"?([0-9]{1,9})\"?[ \t]*", re.IGNORECASE)


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


class KeepAlive(NamedTuple):
    """What an upstream promises about its connection: seconds that it may be idle, and further requests. None: nothing
    said. The margins are already taken off."""

    idle: float | None
    requests: int | None


def parse_keep_alive(value: bytes) -> KeepAlive | None:
    """The parameters of a Keep-Alive field (RFC 2068 section 19.7.1.1; there is no newer text). What is not a number
    is as good as not said."""
    idle: float | None = None
    requests: int | None = None
    for part in value.split(b","):
        match = _PARAMETER.fullmatch(part)
        if match is None:
            continue
        number = int(match[2])
        if match[1].lower() == b"max":
            requests = max(0, number - 1)
        else:
            idle = number - min(_MARGIN, number / 2)
    return KeepAlive(idle, requests) if idle is not None or requests is not None else None


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

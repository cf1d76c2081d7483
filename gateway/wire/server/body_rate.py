"""The least rate at which a client must send a request body, and take a response.

Each body has a balance of seconds. Time takes from it, and bytes that move add to it:

    balance = min(longest, balance - seconds + bytes / rate)

A body whose balance is used up moves too slowly. So `rate` must be kept on average, whoever has been faster may pause
for up to `longest`, and a client that drips is ended after what it began with. Time in which the gateway itself does
not read does not count. Besides, nothing may stand still for `idle` seconds, and a body may have a longest time in all.

It is looked at only when `due` has come, so that a byte that moves costs an addition. Kestrel has the same limit
(MinRequestBodyDataRate: 240 bytes a second after 5 s), but there what was once sent fast may pay for hours of dripping.
"""

from dataclasses import dataclass
from typing import Final

_NEVER: Final = float("inf")
# A body that is nearly too slow is not looked at in every turn of the loop.
_LEAST_WAIT: Final = 0.1


@dataclass(frozen=True, slots=True)
class RateLimits:
    """Bytes a second and seconds. A rate of 0 means that none is asked for, a `body_timeout` of 0 likewise."""

    request_rate: float = 0.0
    response_rate: float = 0.0
    grace: float = 5.0
    body_timeout: float = 0.0


class BodyRate:
    """One body on its way. `moved` counts the bytes since the last look, `last` is when there were some, `due` when
    the next look is worth while."""

    __slots__ = ("_at", "_balance", "_ends", "_idle", "_longest", "_rate", "_stopped_at", "due", "last", "moved")

    def __init__(self, rate: float, idle: float, now: float, *, balance: float, timeout: float = 0.0) -> None:
        self._rate = rate
        self._idle = idle
        self._longest = max(balance, idle)
        self._balance = balance if rate > 0.0 else _NEVER
        self._at = now
        self._ends = now + timeout if timeout > 0.0 else _NEVER
        self._stopped_at: float | None = None
        self.moved = 0
        self.last = now
        self.due = min(now + self._balance, self._ends)

    def deadline(self) -> float:
        """When to look at it, if nothing more moves until then. HOT."""
        idle = self.last + self._idle
        return min(self.due, idle)

    def look(self, now: float) -> str | None:
        """What is wrong with how it moves, in words; None while it may go on."""
        if now >= self._ends:
            return "took longer than it may"
        if self._rate > 0.0:
            balance = self._balance - (now - self._at) + self.moved / self._rate
            if balance <= 0.0:
                return f"moves more slowly than {self._rate:g} bytes a second"
            self._balance = balance = min(self._longest, balance)
            self.due = min(now + max(balance, _LEAST_WAIT), self._ends)
        self._at = now
        self.moved = 0
        if now - self.last >= self._idle:
            return "stands still"
        return None

    def stop(self, now: float) -> None:
        """The gateway takes nothing for now: the client is not to blame for what does not move."""
        self._stopped_at = now

    def go(self, now: float) -> None:
        """The gateway takes bytes again; the pause is not counted."""
        if self._stopped_at is not None:
            pause = now - self._stopped_at
            self._stopped_at = None
            self._at += pause
            self.due += pause
            self._ends += pause
            self.last = now

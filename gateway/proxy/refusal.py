"""Refusals are values: what the gateway answers in place of the upstream, and why."""

import math
import random
from collections.abc import Callable

# The jitter of the longest `Retry-After` that can be configured makes 721.
_KEPT = 1024


class Refusal:
    """`reason` is the stable word of docs/behaviour.md. `retry_after` in whole seconds, at least 1, jitter included.
    `error` is an RFC 9209 error type where the reason's usual one would be less than the truth. `extra` are complete
    header lines. Never changed: who refuses often keeps what it refuses with; `manner` is for whoever says it.
    """

    __slots__ = ("close", "detail", "error", "extra", "manner", "reason", "retry_after", "status")

    def __init__(
        self,
        status: int,
        reason: str,
        detail: str,
        retry_after: int | None = None,
        error: str | None = None,
        extra: bytes = b"",
        *,
        close: bool = False,
    ) -> None:
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after
        self.error = error
        self.extra = extra
        self.close = close
        self.manner: object = None

    def __repr__(self) -> str:
        return f"<Refusal {self.status} {self.reason}: {self.detail}>"


STOPPING = Refusal(503, "draining", "the gateway is stopping", 1, close=True)


class Refusals:
    """Refusals that differ only in when to come back; the latest of them are kept."""

    __slots__ = ("_kept", "_last", "_make", "_seconds")

    def __init__(self, make: Callable[[int], Refusal]) -> None:
        self._make = make
        # The one given last: for a second at least it is the next one too, most often.
        self._seconds = 1
        self._last = make(1)
        self._kept = {1: self._last}

    def after(self, seconds: float) -> Refusal:
        """The one whose client may come back after `seconds`, rounded up (RFC 9110 section 10.2.3), at least 1. HOT."""
        if not self._seconds - 1 < seconds <= self._seconds:
            self._seconds = whole = max(1, math.ceil(seconds))
            refusal = self._kept.get(whole)
            if refusal is None:
                if len(self._kept) >= _KEPT:
                    self._kept.clear()
                refusal = self._kept[whole] = self._make(whole)
            self._last = refusal
        return self._last


def jittered(seconds: float, rng: random.Random) -> int:
    """A `retry_after` that spreads those who obey, so that they do not come back as one wave.

    In whole seconds, as the field has it (what is finer is lost in rounding): `seconds` rounded up, plus uniformly 0 to
    a fifth of it, or to 1 where a fifth is less. HOT.
    """
    least = math.ceil(seconds)
    return least + int(rng.random() * (max(1, least // 5) + 1))

"""Refusals are values: what the gateway answers in place of the upstream, and why.

The client that is refused is often the one that hurries, so a refusal has to cost much less than what it refuses.
Refusals that are alike are therefore one object (`Refusals`), and what their answers and records have in common is made
once and kept with them (`Refusal.template`).
"""

import math
import random
from collections.abc import Callable, Mapping
from typing import Final

from gateway.proxy.answers.problem import Problem
from gateway.proxy.answers.refusal_template import RefusalTemplate

# The jitter of the longest `Retry-After` that can be configured makes 721.
_KEPT: Final = 1024


class Refusal:
    """`reason` is the stable word of docs/behaviour.md. `retry_after` in whole seconds, at least 1, jitter included.
    `error` is an RFC 9209 error type where the reason's usual one would be less than the truth. `extra` are complete
    header lines, `members` further members of the body. With `close` the connection ends after the answer. Immutable,
    so that one object can be reused; the one exception is `template`, which the recorder and the writer of answers keep
    here.
    """

    __slots__ = ("close", "detail", "error", "extra", "members", "reason", "retry_after", "status", "template")

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
        members: Mapping[str, object] | None = None,
    ) -> None:
        self.status = status
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after
        self.error = error
        self.extra = extra
        self.close = close
        self.members = members
        self.template: RefusalTemplate | None = None

    def template_for(self, owner: object, via_name: str) -> RefusalTemplate:
        """The template of this refusal for the gateway whose recorder is `owner` and whose name is `via_name`."""
        template = self.template
        if template is None or template.owner is not owner:
            problem = Problem(
                via_name,
                self.status,
                self.reason,
                self.detail,
                retry_after=self.retry_after,
                error=self.error,
                extra=self.extra,
                members=self.members,
            )
            template = self.template = RefusalTemplate(owner, problem)
        return template

    def __repr__(self) -> str:
        return f"<Refusal {self.status} {self.reason}: {self.detail}>"


STOPPING = Refusal(503, "draining", "the gateway is stopping", 1, close=True)
DEFECT = Refusal(500, "internal_error", "the gateway has failed, and its log says how", close=True)
UNDECIDED = Refusal(500, "internal_error", "the gateway has not decided in time, and its log says where", close=True)


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

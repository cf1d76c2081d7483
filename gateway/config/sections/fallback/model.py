"""Fallbacks in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass
from typing import Final

CONDITIONS: Final = {
    "circuit_open": frozenset({"circuit_open"}),
    "timeout": frozenset({"upstream_timeout"}),
    "unreachable": frozenset({"upstream_unreachable", "endpoints_out"}),
    "protocol_error": frozenset({"upstream_protocol_error"}),
    "bulkhead_full": frozenset({"bulkhead_full"}),
}
"""The words that a fallback is used on, with the reasons (`gateway.reasons`) that each stands for."""


@dataclass(frozen=True, slots=True)
class FixedResponse:
    """An answer that never changes."""

    status: int
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class FallbackConfig:
    """Of one route. What its upstream does not answer is asked of `upstreams`, one after the other, each once. Where
    none is left, the answer is a last good one, which is at most `stale_if_error` seconds old (0: none are kept; they
    take `stale_max_bytes` at most), or `response`, if there is one.

    `on` are words of `CONDITIONS`, `statuses` answers that are passed over. The upstream of the route has `after`
    seconds in all; None: an equal part of the time that is left. A request that an upstream may have acted on goes to
    another one if its method is idempotent, or with `non_idempotent`.
    """

    upstreams: tuple[str, ...] = ()
    on: frozenset[str] = frozenset(CONDITIONS)
    statuses: frozenset[int] = frozenset(range(500, 600))
    after: float | None = None
    non_idempotent: bool = False
    response: FixedResponse | None = None
    stale_if_error: float = 0.0
    stale_max_bytes: int = 16_777_216

    @property
    def conditions(self) -> tuple[str, ...]:
        """What it is used on, as it is written: words, single statuses, and 5xx or 4xx for all of them."""
        words = [word for word in CONDITIONS if word in self.on]
        for first in (400, 500):
            of_class = sorted(status for status in self.statuses if first <= status < first + 100)
            words += [f"{first // 100}xx"] if len(of_class) == 100 else [str(status) for status in of_class]
        return tuple(words)

"""Rate limit fields on the answers of a route whose callers are known: an item for each limit.

`RateLimit-Policy` and `RateLimit` are lists (draft-ietf-httpapi-ratelimit-headers-11), and `pk` says that two items
with one name count different things; what it is made of cannot be read from it. A refusal has the one limit that
refused. The `X-RateLimit-*` trio has room for one: the limit with the fewest tokens left."""

import math
from typing import ClassVar

from gateway.identity.tenants import CountedLimit
from gateway.policy.token_bucket import Decision
from gateway.proxy.filter import Filter
from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response


class CallerLimitFields(Filter):
    """What the limits of a caller have decided, as header lines. With `legacy` the X-RateLimit trio too."""

    adds_fields: ClassVar[bool] = True
    adds_to_refusals: ClassVar[bool] = True

    def __init__(self, *, legacy: bool) -> None:
        self._legacy = legacy

    def fields(self, ticket: Ticket, response: Response | None) -> bytes:
        """HOT."""
        rates = ticket.rates
        return self.lines(rates) if rates else b""

    def lines(self, rates: list[tuple[CountedLimit, Decision]]) -> bytes:
        """Complete header lines for these decisions, of which there is at least one. HOT."""
        policies: list[str] = []
        items: list[str] = []
        limit, tightest = rates[0]
        for each, decision in rates:
            policies.append(each.described)
            left, more = max(0, int(decision.remaining)), _more_after(each, decision)
            items.append(f'"{each.policy.name}";r={left};t={more}{each.partition}')
            if decision.remaining < tightest.remaining:
                limit, tightest = each, decision
        text = f"RateLimit-Policy: {', '.join(policies)}\r\nRateLimit: {', '.join(items)}\r\n"
        if self._legacy:
            text += (
                f"X-RateLimit-Limit: {limit.policy.capacity}\r\nX-RateLimit-Remaining: "
                f"{max(0, int(tightest.remaining))}\r\nX-RateLimit-Reset: {math.ceil(tightest.reset_after)}\r\n"
            )
        return text.encode()


def _more_after(limit: CountedLimit, decision: Decision) -> int:
    """Seconds until there is one token more, as `RateLimitFields` counts them."""
    left, reset = decision.remaining, decision.reset_after
    more = decision.retry_after or (1.0 - left % 1.0) / limit.policy.refill_rate
    return math.ceil(more if more <= reset else decision.retry_after or reset)

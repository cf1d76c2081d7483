"""Rate limit fields on answers: the one place that knows their syntax, which is still moving.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-10: quota, window and name of the
policy; tokens left (`r`) and seconds until there are more (`t`), which is as long as a client has to wait for its next
request, and never longer than `Retry-After` says. The `X-RateLimit-*` trio is what most clients read today; its reset
is in seconds from now until the bucket is full. All seconds are whole ones, rounded up."""

import math
from typing import ClassVar

from gateway.policy.token_bucket import EXEMPT, Decision, RateLimitPolicy
from gateway.proxy.filter import Filter
from gateway.proxy.ticket import Ticket
from gateway.telemetry.digits import decimal
from gateway.wire.message.response import Response


class RateLimitFields(Filter):
    """What the rate limit of a route has decided, as header lines. With `legacy` the X-RateLimit trio too."""

    adds_fields: ClassVar[bool] = True
    adds_to_refusals: ClassVar[bool] = True

    def __init__(self, policy: RateLimitPolicy, *, legacy: bool) -> None:
        window = max(1, math.ceil(policy.capacity / policy.refill_rate))
        name = policy.name
        self._start = f'RateLimit-Policy: "{name}";q={policy.capacity};w={window}\r\nRateLimit: "{name}";r='.encode()
        self._limit = b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: " % policy.capacity if legacy else b""
        self._rate = policy.refill_rate
        # What follows from one of the times alone: it stays the same for a second, or for many requests.
        self._more = self._reset = -1
        self._middle = b""
        self._end = b""
        # The lines as they were last, and for how many tokens; -1 when one of the times has changed since.
        self._left = -1
        self._lines = b""

    def fields(self, ticket: Ticket, response: Response | None) -> bytes:
        """HOT."""
        decision = ticket.rate
        return b"" if decision is None else self.lines(decision)

    def lines(self, decision: Decision) -> bytes:
        """Complete header lines; none for a client that no limit is for. HOT."""
        if decision is EXEMPT:
            return b""
        left = decision.remaining
        retry_after = decision.retry_after
        reset_after = decision.reset_after
        # To the next whole token; the bucket may be forgotten, and so be full, before.
        more_after = retry_after or (1.0 - left % 1.0) / self._rate
        if more_after > reset_after:
            more_after = retry_after or reset_after
        if not self._more - 1 < more_after <= self._more:
            self._more = more = math.ceil(more_after)
            self._middle = b";t=%d\r\n%b" % (more, self._limit)
            self._left = -1
        if not self._reset - 1 < reset_after <= self._reset:
            self._reset = reset = math.ceil(reset_after)
            self._end = b"\r\nX-RateLimit-Reset: %d\r\n" % reset
            self._left = -1
        whole = int(left) if left > 0 else 0
        if whole != self._left:
            self._left = whole
            remaining = decimal(whole)
            if self._limit:
                self._lines = b"".join((self._start, remaining, self._middle, remaining, self._end))
            else:
                self._lines = b"".join((self._start, remaining, self._middle))
        return self._lines

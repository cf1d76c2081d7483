"""Rate limit fields on answers: the one place that knows their syntax, which is still moving.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-10: quota, window and name of the
policy; tokens left and seconds until the quota is full again. The `X-RateLimit-*` trio is what most clients read
today; its reset is in seconds from now."""

import math

from gateway.policy.token_bucket import Decision, RateLimitPolicy


class RateLimitFields:
    def __init__(self, policy: RateLimitPolicy, *, legacy: bool) -> None:
        window = max(1, math.ceil(policy.capacity / policy.refill_rate))
        name = policy.name
        self._start = f'RateLimit-Policy: "{name}";q={policy.capacity};w={window}\r\nRateLimit: "{name}";r='.encode()
        self._limit = b"X-RateLimit-Limit: %d\r\nX-RateLimit-Remaining: " % policy.capacity if legacy else b""
        # What follows from the reset alone: it stays the same for a second, or for many requests.
        self._reset = -1
        self._middle = b""
        self._end = b""

    def lines(self, decision: Decision) -> bytes:
        """HOT."""
        _, left, _, reset_after = decision
        remaining = b"%d" % left if left > 0 else b"0"
        if not self._reset - 1 < reset_after <= self._reset:
            self._reset = reset = math.ceil(reset_after)
            self._middle = b";t=%d\r\n%b" % (reset, self._limit)
            self._end = b"\r\nX-RateLimit-Reset: %d\r\n" % reset
        if self._limit:
            return b"".join((self._start, remaining, self._middle, remaining, self._end))
        return b"".join((self._start, remaining, self._middle))

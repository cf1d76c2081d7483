"""Rate limit fields on answers: the one place that knows their syntax, which is still moving.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers-10: quota, window and name of the
policy; tokens left and seconds until the quota is full again. The `X-RateLimit-*` trio is what most clients read
today; its reset is in seconds from now."""

import math

from gateway.policy.token_bucket import Decision, RateLimitPolicy


class RateLimitFields:
    def __init__(self, policy: RateLimitPolicy, *, legacy: bool) -> None:
        window = max(1, math.ceil(policy.capacity / policy.refill_rate))
        self._policy = f'RateLimit-Policy: "{policy.name}";q={policy.capacity};w={window}\r\n'.encode()
        self._name = policy.name.encode()
        self._limit = b"X-RateLimit-Limit: %d\r\n" % policy.capacity if legacy else b""

    def lines(self, decision: Decision) -> bytes:
        remaining = int(decision.remaining) if decision.remaining > 0 else 0
        reset = math.ceil(decision.reset_after)
        if self._limit:
            return b'%bRateLimit: "%b";r=%d;t=%d\r\n%bX-RateLimit-Remaining: %d\r\nX-RateLimit-Reset: %d\r\n' % (
                self._policy,
                self._name,
                remaining,
                reset,
                self._limit,
                remaining,
                reset,
            )
        return b'%bRateLimit: "%b";r=%d;t=%d\r\n' % (self._policy, self._name, remaining, reset)

"""The rate limit's fields, whatever was written before them."""

import math

from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.token_bucket import Decision, RateLimitPolicy
from gateway.proxy.rate_limit_fields import RateLimitFields

POLICY = RateLimitPolicy("default", 50, 20.0)

decisions = st.builds(
    Decision, st.booleans(), st.floats(0.0, 50.0), st.just(0.0), st.one_of(st.floats(0.0, 5.0), st.integers(0, 5))
)


@given(st.lists(decisions, min_size=1, max_size=8))
def test_they_say_what_was_decided(told: list[Decision]) -> None:
    fields, without = RateLimitFields(POLICY, legacy=True), RateLimitFields(POLICY, legacy=False)
    for decision in told:
        left, reset = int(decision.remaining), math.ceil(decision.reset_after)
        drafted = f'RateLimit-Policy: "default";q=50;w=3\r\nRateLimit: "default";r={left};t={reset}\r\n'
        legacy = f"X-RateLimit-Limit: 50\r\nX-RateLimit-Remaining: {left}\r\nX-RateLimit-Reset: {reset}\r\n"
        assert fields.lines(decision).decode() == drafted + legacy
        assert without.lines(decision).decode() == drafted

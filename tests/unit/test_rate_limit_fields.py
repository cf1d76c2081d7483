"""The rate limit's fields, whatever was written before them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.token_bucket import EXEMPT, BucketTable, Decision, RateLimitPolicy
from gateway.proxy.filters.rate_limit_fields import RateLimitFields

POLICY = RateLimitPolicy("default", 50, 20.0)
SLOW = RateLimitPolicy("default", 5, 0.25)

# Of one call after another at these instants.
instants = st.lists(st.floats(0.0, 30.0), min_size=1, max_size=12).map(sorted)


def decided(policy: RateLimitPolicy, at: list[float]) -> list[Decision]:
    table = BucketTable(policy)
    return [table.take("c", now) for now in at for _ in range(2)]


@given(st.sampled_from([POLICY, SLOW]), instants)
def test_they_say_what_was_decided(policy: RateLimitPolicy, at: list[float]) -> None:
    fields, without = RateLimitFields(policy, legacy=True), RateLimitFields(policy, legacy=False)
    window = math.ceil(policy.capacity / policy.refill_rate)
    for decision in decided(policy, at):
        left, reset = int(decision.remaining), math.ceil(decision.reset_after)
        more = math.ceil(decision.retry_after or (1.0 - decision.remaining % 1.0) / policy.refill_rate)
        told = (
            f'RateLimit-Policy: "default";q={policy.capacity};w={window}\r\nRateLimit: "default";r={left};t={more}\r\n'
        )
        legacy = (
            f"X-RateLimit-Limit: {policy.capacity}\r\nX-RateLimit-Remaining: {left}\r\nX-RateLimit-Reset: {reset}\r\n"
        )
        assert fields.lines(decision).decode() == told + legacy
        assert without.lines(decision).decode() == told
        assert more <= reset
        if not decision.allowed:
            assert more <= max(1, math.ceil(decision.retry_after))


@pytest.mark.parametrize(
    ("decision", "more", "full"),
    [
        (Decision(True, 4.0, 0.0, 4.0), 4, 4),
        (Decision(True, 3.5, 0.0, 6.0), 2, 6),
        (Decision(True, 0.0, 0.0, 20.0), 4, 20),
        (Decision(False, 0.25, 3.0, 19.0), 3, 19),
        # The policy may be forgotten, and so be full, before the next token has flowed in.
        (Decision(True, 0.0, 0.0, 2.0), 2, 2),
        (Decision(True, 5.0, 0.0, 0.0), 0, 0),
    ],
)
def test_t_is_the_time_until_there_is_more_and_reset_until_it_is_full(decision: Decision, more: int, full: int) -> None:
    lines = RateLimitFields(SLOW, legacy=True).lines(decision)
    assert b";t=%d\r\n" % more in lines
    assert b"X-RateLimit-Reset: %d\r\n" % full in lines


def test_exempt_clients_have_no_figures() -> None:
    assert RateLimitFields(POLICY, legacy=True).lines(EXEMPT) == b""

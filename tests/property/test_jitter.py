"""The jitter of `Retry-After`: what is sent, after rounding, spreads and is never too early."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.answers.refusals import jittered


@given(st.floats(1.0, 3600.0), st.randoms(use_true_random=False))
def test_never_less_than_configured_and_a_fifth_or_a_second_more_at_most(seconds: float, rng: random.Random) -> None:
    sent = jittered(seconds, rng)
    least = math.ceil(seconds)
    assert seconds <= least <= sent <= max(least + 1, least * 1.2)


@pytest.mark.parametrize(
    ("seconds", "sent"), [(1.0, range(1, 3)), (5.0, range(5, 7)), (2.5, range(3, 5)), (30.0, range(30, 37))]
)
def test_every_whole_second_of_the_spread_is_sent_about_as_often(seconds: float, sent: range) -> None:
    rng = random.Random(1)
    seen = [jittered(seconds, rng) for _ in range(1000 * len(sent))]
    assert set(seen) == set(sent)
    assert all(800 < seen.count(each) < 1200 for each in sent)

"""Refusals that are kept, because the same ones come all the time."""

import pytest

from gateway.proxy.answers.refusals import Refusal, Refusals


def limited(seconds: int) -> Refusal:
    return Refusal(429, "rate_limited", "too many", seconds)


@pytest.mark.parametrize(("seconds", "whole"), [(-1.5, 1), (0.0, 1), (0.2, 1), (1.0, 1), (1.01, 2), (29.5, 30)])
def test_retry_after_is_whole_rounded_up_and_at_least_one(seconds: float, whole: int) -> None:
    assert Refusals(limited).after(seconds).retry_after == whole


def test_the_same_second_is_the_same_refusal() -> None:
    refusals = Refusals(limited)
    refusal = refusals.after(1.5)
    assert refusals.after(1.9) is refusal
    assert refusals.after(2.1) is not refusal


def test_however_many_different_ones_there_are_the_right_one_comes() -> None:
    refusals = Refusals(limited)
    for seconds in (*range(1, 3000), *range(1, 3000)):
        assert refusals.after(seconds).retry_after == seconds

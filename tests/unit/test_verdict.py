"""The trip rules, by table. tests/conformance/test_store_verdicts.py holds the stores to the same rules."""

from dataclasses import replace

import pytest

from gateway.policy.tally import Tally
from gateway.policy.verdict import (
    CONSECUTIVE_FAILURES,
    FAILURE_RATE,
    SLOW_CALL_RATE,
    Rule,
    TripRules,
    cause,
    holds,
    judge,
    judge_fleet,
    total,
)

RULES = TripRules(failure_threshold=3, slow_call_threshold=1.0, slow_call_rate_threshold=0.8, minimum_calls=10)
NO_SLOW_RULE = replace(RULES, slow_call_threshold=None)


@pytest.mark.parametrize(
    ("rules", "consecutive", "tally", "expected"),
    [
        (RULES, 0, Tally(), None),
        (RULES, 2, Tally(2, 2), None),
        (RULES, 3, Tally(3, 3), CONSECUTIVE_FAILURES),
        (RULES, 4, Tally(4, 4), CONSECUTIVE_FAILURES),
        (RULES, 0, Tally(9, 9), None),
        (RULES, 0, Tally(10, 4), None),
        (RULES, 0, Tally(10, 5), FAILURE_RATE),
        (RULES, 0, Tally(11, 5), None),
        (RULES, 0, Tally(9, 0, 9), None),
        (RULES, 0, Tally(10, 0, 7), None),
        (RULES, 0, Tally(10, 0, 8), SLOW_CALL_RATE),
        (NO_SLOW_RULE, 0, Tally(10, 0, 10), None),
        # The first rule in the order is the cause.
        (RULES, 3, Tally(10, 10, 10), CONSECUTIVE_FAILURES),
        (RULES, 2, Tally(10, 10, 10), FAILURE_RATE),
        (replace(RULES, failure_rate_threshold=1.0), 0, Tally(10, 9, 10), SLOW_CALL_RATE),
    ],
)
def test_one_tally(rules: TripRules, consecutive: int, tally: Tally, expected: Rule | None) -> None:
    assert judge(rules, consecutive, tally) is expected
    # A fleet of one replica judges alike.
    assert judge_fleet(rules, consecutive, [tally]) is expected


@pytest.mark.parametrize(
    ("tallies", "expected"),
    [
        ([], None),
        ([Tally(5, 5), Tally(5, 0)], FAILURE_RATE),
        ([Tally(5, 4), Tally(5, 0)], None),
        # The second replica has minimum_calls, and its rate alone does not reach the limit.
        ([Tally(20, 20), Tally(10, 4)], None),
        ([Tally(20, 20), Tally(10, 5)], FAILURE_RATE),
        # It has one call less than that, so it cannot deny what the first one saw.
        ([Tally(20, 20), Tally(9, 0)], FAILURE_RATE),
        ([Tally(20, 20), Tally(5, 2), Tally(5, 2)], None),
        ([Tally(20, 20), Tally(5, 3), Tally(5, 2)], FAILURE_RATE),
        ([Tally(20, 0, 20), Tally(10, 0, 7)], None),
        ([Tally(20, 0, 20), Tally(10, 0, 8)], SLOW_CALL_RATE),
        # One rule is denied, the next one is not.
        ([Tally(20, 20, 20), Tally(10, 0, 8)], SLOW_CALL_RATE),
    ],
)
def test_several_replicas(tallies: list[Tally], expected: Rule | None) -> None:
    assert judge_fleet(RULES, 0, tallies) is expected
    assert judge_fleet(RULES, 0, tallies[::-1]) is expected


def test_consecutive_failures_of_the_fleet_need_no_second_replica() -> None:
    healthy = [Tally(3, 3), Tally(100, 0)]
    assert judge_fleet(RULES, 3, healthy) is CONSECUTIVE_FAILURES
    assert judge_fleet(RULES, 2, healthy) is None


@pytest.mark.parametrize("rule", Rule)
def test_one_rule_is_asked_alone(rule: Rule) -> None:
    held = {
        CONSECUTIVE_FAILURES: (3, [Tally(3, 3)]),
        FAILURE_RATE: (0, [Tally(10, 10)]),
        SLOW_CALL_RATE: (0, [Tally(10, 0, 10)]),
    }
    assert [other for other in Rule if holds(other, RULES, *held[rule])] == [rule]


def test_the_cause_is_told_with_its_figures() -> None:
    tally = total([Tally(10, 4, 8), Tally(2, 1, 1)])
    assert cause(CONSECUTIVE_FAILURES, RULES, tally) == "3 consecutive failures"
    assert cause(FAILURE_RATE, RULES, tally) == "5 of the last 12 calls failed"
    assert cause(SLOW_CALL_RATE, RULES, tally) == "9 of the last 12 calls were slow"

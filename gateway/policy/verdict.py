"""The trip rules: when the calls that were counted open a circuit.

A circuit opens when one of these rules holds. They are asked in this order, and the first one that holds is the cause:

    consecutive failures    consecutive          ≥ failure_threshold
    failure rate            failures / calls     ≥ failure_rate_threshold      if calls ≥ minimum_calls
    slow-call rate          slow_calls / calls   ≥ slow_call_rate_threshold    if calls ≥ minimum_calls
                                                                               and slow_call_threshold is set

One replica applies them to its own tally (`judge`). The fleet applies them to the tallies of several replicas
(`judge_fleet`): there a rate is the rate of all their calls together, and it must also hold without any single replica
whenever the other replicas have `minimum_calls` between them. One replica with a broken network then proves nothing
about the upstream. With a single tally both functions give the same answer.

The rules are written here once. The breaker and the store in memory call this module. The script in
`store/lua/circuit_ops/` has to repeat them, and a table of cases that is made with this module holds it to them.

What is left out on purpose: which failures count as consecutive, and which reports of replicas are believed. The
breaker and the store decide that before they ask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.policy.tally import Tally


@dataclass(frozen=True, slots=True)
class TripRules:
    """When a circuit opens.

    Rates are fractions in (0, 1]. A call of `slow_call_threshold` seconds or more is slow; None turns the slow-call
    rule off. The rates look at the last `window_size` calls that are younger than `window_seconds` seconds, once there
    are `minimum_calls` of them (at least 1).
    """

    failure_threshold: int = 5
    failure_rate_threshold: float = 0.5
    slow_call_threshold: float | None = None
    slow_call_rate_threshold: float = 0.5
    window_size: int = 100
    window_seconds: float = 60.0
    minimum_calls: int = 20


class Rule(Enum):
    """The rules, in the order in which they are asked."""

    CONSECUTIVE_FAILURES = "consecutive_failures"
    FAILURE_RATE = "failure_rate"
    SLOW_CALL_RATE = "slow_call_rate"


CONSECUTIVE_FAILURES: Final = Rule.CONSECUTIVE_FAILURES
FAILURE_RATE: Final = Rule.FAILURE_RATE
SLOW_CALL_RATE: Final = Rule.SLOW_CALL_RATE


def judge(rules: TripRules, consecutive: int, tally: Tally) -> Rule | None:
    """The first rule that holds for one tally and so many consecutive failures, or None."""
    if consecutive >= rules.failure_threshold:
        return CONSECUTIVE_FAILURES
    if tally.calls < rules.minimum_calls:
        return None
    # A rate of nothing reaches no limit.
    if tally.failures and _rate_is_reached(FAILURE_RATE, rules, tally):
        return FAILURE_RATE
    if tally.slow_calls and _rate_is_reached(SLOW_CALL_RATE, rules, tally):
        return SLOW_CALL_RATE
    return None


def judge_fleet(rules: TripRules, consecutive: int, tallies: Sequence[Tally]) -> Rule | None:
    """The first rule that holds for the tallies of several replicas, one tally each, or None.

    `consecutive` are the consecutive failures of the whole fleet.
    """
    for rule in Rule:
        if holds(rule, rules, consecutive, tallies):
            return rule
    return None


def holds(rule: Rule, rules: TripRules, consecutive: int, tallies: Sequence[Tally]) -> bool:
    """Whether this one rule holds for the tallies of several replicas."""
    if rule is CONSECUTIVE_FAILURES:
        return consecutive >= rules.failure_threshold
    whole = total(tallies)
    if whole.calls < rules.minimum_calls or not _rate_is_reached(rule, rules, whole):
        return False
    for tally in tallies:
        others = _without(whole, tally)
        if others.calls >= rules.minimum_calls and not _rate_is_reached(rule, rules, others):
            return False
    return True


def cause(rule: Rule, rules: TripRules, tally: Tally) -> str:
    """What operators and clients read about a circuit that `rule` opened. `tally` is what the rule was applied to."""
    if rule is CONSECUTIVE_FAILURES:
        return f"{rules.failure_threshold} consecutive failures"
    if rule is FAILURE_RATE:
        return f"{tally.failures} of the last {tally.calls} calls failed"
    return f"{tally.slow_calls} of the last {tally.calls} calls were slow"


def total(tallies: Sequence[Tally]) -> Tally:
    """The sum of the tallies."""
    whole = Tally()
    for tally in tallies:
        whole.calls += tally.calls
        whole.failures += tally.failures
        whole.slow_calls += tally.slow_calls
    return whole


def _without(whole: Tally, part: Tally) -> Tally:
    return Tally(whole.calls - part.calls, whole.failures - part.failures, whole.slow_calls - part.slow_calls)


def _rate_is_reached(rule: Rule, rules: TripRules, tally: Tally) -> bool:
    """Whether the rate that `rule` is about reaches its limit. `tally` must hold at least one call."""
    if rule is FAILURE_RATE:
        return tally.failures / tally.calls >= rules.failure_rate_threshold
    return rules.slow_call_threshold is not None and tally.slow_calls / tally.calls >= rules.slow_call_rate_threshold

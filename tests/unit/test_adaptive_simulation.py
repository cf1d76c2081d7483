"""The adaptive limit before simulated upstreams (`benchmarks.simulation`), on a clock that is a number.

Each scenario runs with two seeds. What is asked of it is what docs/overload.md says.
"""

from collections.abc import Sequence
from xml.etree import ElementTree

import pytest

from benchmarks.simulation import scenarios
from benchmarks.simulation.draw import panels, svg
from benchmarks.simulation.scenarios import CUT, MENDED, goodput, percentile, recovered_after
from benchmarks.simulation.upstream import Scenario, Second, run

SEEDS = (1, 2)


def limits(seconds: Sequence[Second]) -> list[float]:
    return [second.limit for second in seconds]


def served(seconds: Sequence[Second], priority: int) -> float:
    """The share of the requests of a class that were answered."""
    offered = sum(second.offered_of[priority] for second in seconds)
    return sum(second.answered_of[priority] for second in seconds) / offered


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("scenario", [scenarios.STEP, scenarios.SLOWER], ids=lambda each: each.name)
def test_step_a_tenth_of_the_capacity_is_used_in_time_and_all_of_it_once_it_is_back(
    scenario: Scenario, seed: int
) -> None:
    seconds = run(scenario, seed=seed)
    cut = seconds[CUT + 10 : MENDED]
    # Two workers at 50 ms, or twenty at 500 ms, are 40 requests a second.
    assert goodput(cut) >= 0.9 * 40
    assert percentile(cut, 0.99) <= 3.0
    recovered = recovered_after(seconds, MENDED, 300.0)
    assert recovered is not None
    assert recovered <= 10


def test_step_a_fixed_limit_of_the_same_ceiling_answers_hardly_anybody_in_time() -> None:
    seconds = run(scenarios.STEP, fixed=1000)
    assert goodput(seconds[CUT + 10 : MENDED]) < 0.1 * 40


@pytest.mark.parametrize("seed", SEEDS)
def test_ramp_what_is_more_than_the_capacity_is_refused_and_the_rest_is_as_quick_as_before(seed: int) -> None:
    seconds = run(scenarios.RAMP, seed=seed)
    overloaded = seconds[100:]
    assert goodput(overloaded) >= 0.9 * 400
    assert percentile(overloaded, 0.99) <= 0.5
    assert sum(second.refused for second in seconds[:40]) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_oscillation_the_limit_follows_and_does_not_collapse(seed: int) -> None:
    seconds = run(scenarios.OSCILLATION, seed=seed)[20:]
    high = [second for number, second in enumerate(seconds, 20) if number // 20 % 2 == 0]
    low = [second for number, second in enumerate(seconds, 20) if number // 20 % 2 == 1]
    assert goodput(high) >= 0.85 * 400
    assert goodput(low) >= 0.9 * 160
    assert min(limits(seconds)) >= 12
    assert percentile(seconds, 0.99) <= 1.0


@pytest.mark.parametrize("seed", SEEDS)
def test_overload_that_lasts_neither_raises_the_limit_without_end_nor_starves_the_upstream(seed: int) -> None:
    seconds = run(scenarios.OVERLOAD, seed=seed)[20:]
    assert goodput(seconds) >= 0.9 * 400
    assert max(limits(seconds)) <= 200
    assert min(limits(seconds)) >= 12
    assert percentile(seconds, 0.99) <= 0.6


@pytest.mark.parametrize("seed", SEEDS)
def test_bimodal_times_are_no_overload(seed: int) -> None:
    seconds = run(scenarios.BIMODAL, seed=seed)
    assert goodput(seconds[20:]) >= 0.9 * 200
    grouped = run(scenarios.BIMODAL_GROUPED, seed=seed)
    assert goodput(grouped[20:]) >= 0.98 * 200
    assert sum(second.refused for second in grouped) == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_low_traffic_refuses_nobody_and_goes_back_to_the_beginning_when_it_ends(seed: int) -> None:
    seconds = run(scenarios.LOW_TRAFFIC, seed=seed)
    assert sum(second.refused for second in seconds) == 0
    assert min(limits(seconds)) >= 50


@pytest.mark.parametrize("seed", SEEDS)
def test_slow_start_an_upstream_that_needs_more_gets_it_within_seconds(seed: int) -> None:
    seconds = run(scenarios.SLOW_START, seed=seed)
    assert goodput(seconds[30:]) >= 0.95 * 1500
    assert seconds[-1].limit >= 150


@pytest.mark.parametrize("seed", SEEDS)
def test_classes_critical_requests_are_unhurt_and_the_lowest_are_shed(seed: int) -> None:
    seconds = run(scenarios.CLASSES, seed=seed)
    cut = seconds[CUT + 10 : MENDED]
    assert served(cut, 0) >= 0.97
    assert served(cut, 4) <= 0.02
    assert goodput(cut) >= 0.9 * 40
    assert served(seconds[MENDED + 10 :], 4) >= 0.99


def test_a_chart_has_a_line_for_each_series_and_none_where_nothing_was_answered() -> None:
    seconds = run(scenarios.LOW_TRAFFIC)
    assert any(not second.times for second in seconds)
    document = ElementTree.fromstring(svg("low traffic", panels(seconds, seconds)))  # noqa: S314 - it is ours
    lines = document.findall("{http://www.w3.org/2000/svg}polyline")
    assert len(lines) > 6
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = point.split(",")
            assert 58 <= float(x) <= 744
            assert float(y) > 0

"""The adaptive limit by itself, window by window, on a clock that is a number."""

import pytest

from gateway.policy.adaptive import AdaptiveLimit, AdaptiveSettings
from gateway.policy.trend import MIN_SAMPLES


class Upstream:
    """Answers that come in windows of one second, all of them after the same time."""

    def __init__(self, minimum: int = 8, initial: int = 64, ceiling: int = 1000) -> None:
        self.now = 0.0
        self.adaptive = AdaptiveLimit(AdaptiveSettings(min=minimum, initial=initial), ceiling, self.now)

    def window(
        self,
        seconds: float,
        in_flight: int | None = None,
        *,
        samples: int = 100,
        full: bool = False,
        group: str = "default",
    ) -> int:
        """One window; the limit behind it."""
        adaptive = self.adaptive
        adaptive.full = full
        members = adaptive.group(group)
        length = max(1.0, 2.0 * seconds) / samples
        held = adaptive.limit if in_flight is None else in_flight
        for _ in range(samples + 1):
            self.now += length
            adaptive.sample(members, seconds, held, self.now)
        return adaptive.limit


def test_it_begins_with_initial_within_minimum_and_ceiling() -> None:
    assert Upstream().adaptive.limit == 64
    assert Upstream(ceiling=10).adaptive.limit == 10
    assert Upstream(minimum=5, initial=2).adaptive.limit == 5
    assert Upstream(minimum=50, ceiling=20).adaptive.limit == 20


def test_it_grows_in_small_steps_while_answers_take_as_long_as_ever() -> None:
    upstream = Upstream()
    limits = [upstream.window(0.05) for _ in range(10)]
    assert limits == sorted(limits)
    assert limits[-1] > 64


def test_it_grows_by_a_tenth_where_requests_found_no_place() -> None:
    upstream = Upstream()
    upstream.window(0.05, 40)
    assert upstream.window(0.05, full=True) >= 64 * 1.09


def test_it_does_not_grow_where_half_of_it_was_not_used() -> None:
    upstream = Upstream()
    for _ in range(10):
        assert upstream.window(0.05, 31) == 64


def test_it_shrinks_towards_five_times_what_is_in_flight() -> None:
    upstream = Upstream()
    for _ in range(100):
        upstream.window(0.05, 4)
    assert upstream.adaptive.limit == 20


def test_a_queue_at_the_upstream_shrinks_it_by_at_most_a_tenth_at_a_time() -> None:
    upstream = Upstream()
    for _ in range(10):
        upstream.window(0.05, 40)
    before = upstream.adaptive.limit
    limits = [upstream.window(1.0) for _ in range(5)]
    assert limits[-1] < before * 0.8
    steps = [after / earlier for earlier, after in zip([before, *limits], limits, strict=False)]
    # The first of them ends a window of one second and another one.
    assert all(step >= 0.88 for step in steps[1:])


def test_it_never_leaves_minimum_and_ceiling() -> None:
    upstream = Upstream(minimum=8, initial=16, ceiling=32)
    for _ in range(60):
        assert upstream.window(0.05, full=True) <= 32
    for number in range(60):
        assert upstream.window(0.1 * 1.2**number if number < 30 else 24.0) >= 8


def test_a_lasting_change_becomes_normal() -> None:
    upstream = Upstream()
    for _ in range(10):
        upstream.window(0.05, 40)
    for _ in range(40):
        upstream.window(0.25, 20)
    (group,) = upstream.adaptive.groups
    assert group.trend.baseline.value == pytest.approx(0.25, rel=0.05)


def test_answers_that_become_quicker_let_it_grow_twice_as_fast() -> None:
    upstream = Upstream(initial=20)
    for _ in range(10):
        upstream.window(0.5, 12)
    for _ in range(2):
        upstream.window(0.05, 12)
    before = upstream.adaptive.value
    upstream.window(0.05, full=True)
    assert upstream.adaptive.value == pytest.approx(before * 1.2)


def test_it_says_nothing_before_fifty_answers() -> None:
    upstream = Upstream()
    group = upstream.adaptive.group("default")
    for number in range(1, MIN_SAMPLES):
        assert not upstream.adaptive.sample(group, 5.0, 64, 10.0 * number)
    assert group.trend.recent == 0.0
    assert upstream.adaptive.sample(group, 5.0, 64, 10.0 * MIN_SAMPLES)
    assert group.trend.recent == 5.0


def test_without_answers_it_goes_back_half_of_the_way_every_thirty_seconds() -> None:
    upstream = Upstream(initial=100)
    for _ in range(200):
        upstream.window(0.05, 4)
    assert upstream.adaptive.limit == 20
    now = upstream.now
    assert not upstream.adaptive.drift(now + 60.0)
    assert upstream.adaptive.limit == 20
    assert upstream.adaptive.drift(now + 90.0)
    assert upstream.adaptive.value == pytest.approx(60.0)
    upstream.adaptive.drift(now + 120.0)
    assert upstream.adaptive.value == pytest.approx(80.0)
    upstream.adaptive.drift(now + 3600.0)
    assert upstream.adaptive.value == pytest.approx(100.0)


def test_it_goes_on_from_where_it_has_drifted_to() -> None:
    upstream = Upstream(initial=100)
    for _ in range(200):
        upstream.window(0.05, 4)
    upstream.now += 90.0
    assert 50 <= upstream.window(0.05, 40) <= 62


def test_the_most_pessimistic_group_decides() -> None:
    upstream = Upstream()
    for _ in range(10):
        upstream.window(0.05, 20, group="quick")
        upstream.window(0.5, 20, group="slow")
    before = upstream.adaptive.limit
    upstream.window(5.0, group="slow")
    upstream.window(5.0, group="slow")
    shrunk = upstream.adaptive.limit
    assert shrunk < before
    assert upstream.window(0.05, 40, group="quick") == shrunk, "the other group still queues"
    upstream.now += 31.0
    assert upstream.window(0.05, 40, group="quick") > shrunk, "nobody has heard of the other one for long"


def test_slow_answers_of_one_kind_beside_quick_ones_are_no_queue() -> None:
    upstream = Upstream()
    for _ in range(20):
        upstream.window(0.01, group="quick")
        upstream.window(1.0, group="slow")
    assert upstream.adaptive.limit >= 64

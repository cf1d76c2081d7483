from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.ejection import Ejection, EjectionSettings
from gateway.policy.outcome import Outcome

SETTINGS = EjectionSettings(consecutive_failures=3, base_time=5.0, max_time=60.0, max_fraction=0.5)


def fail(ejection: Ejection, index: int, now: float, times: int = 3) -> bool:
    return [ejection.record(index, Outcome.FAILURE, now) for _ in range(times)][-1]


def test_consecutive_failures_eject_for_the_base_time() -> None:
    ejection = Ejection(SETTINGS, 2)
    assert not fail(ejection, 0, 10.0, times=2)
    assert not ejection.ejected(0, 10.0)
    assert fail(ejection, 0, 10.0, times=1)
    assert ejection.ejected(0, 14.99)
    assert not ejection.health[0].available(14.99)
    assert ejection.health[1].available(14.99)
    assert ejection.ejected_count(14.99) == 1
    assert not ejection.ejected(0, 15.0)
    assert ejection.health[0].available(15.0)


def test_a_success_in_between_starts_the_count_again_and_an_ignored_outcome_does_not() -> None:
    ejection = Ejection(SETTINGS, 2)
    fail(ejection, 0, 0.0, times=2)
    ejection.record(0, Outcome.SUCCESS, 0.0)
    assert not fail(ejection, 0, 0.0, times=2)
    assert not ejection.record(0, Outcome.IGNORED, 0.0)
    assert ejection.record(0, Outcome.FAILURE, 0.0)


def test_each_ejection_in_a_row_lasts_twice_as_long_up_to_the_maximum() -> None:
    ejection = Ejection(SETTINGS, 2)
    now = 0.0
    lengths = []
    for _ in range(7):
        assert fail(ejection, 0, now)
        until = ejection.health[0].ejected_until
        lengths.append(until - now)
        now = until + 1.0
    assert lengths == [5.0, 10.0, 20.0, 40.0, 60.0, 60.0, 60.0]


def ejected_thrice() -> tuple[Ejection, float]:
    """The endpoint is back, at the instant given, from ejections of 5, 10 and 20 seconds."""
    ejection = Ejection(SETTINGS, 2)
    for _ in range(3):
        fail(ejection, 0, max(0.0, ejection.health[0].ejected_until))
    return ejection, ejection.health[0].ejected_until


def next_length(ejection: Ejection, now: float) -> float:
    assert fail(ejection, 0, now)
    return ejection.health[0].ejected_until - now


def test_good_service_is_repaid_ejection_by_ejection() -> None:
    for good, length in [(0.0, 40.0), (19.0, 40.0), (20.0, 20.0), (29.0, 20.0), (30.0, 10.0), (35.0, 5.0), (1e6, 5.0)]:
        ejection, back = ejected_thrice()
        ejection.record(0, Outcome.SUCCESS, back + good)
        assert next_length(ejection, back + good) == length, good


def test_time_without_a_success_repays_nothing() -> None:
    ejection, back = ejected_thrice()
    assert next_length(ejection, back + 1000.0) == 40.0


def test_what_ends_while_the_endpoint_is_out_changes_nothing() -> None:
    ejection = Ejection(SETTINGS, 2)
    fail(ejection, 0, 0.0)
    assert not fail(ejection, 0, 1.0, times=10)
    ejection.record(0, Outcome.SUCCESS, 2.0)
    assert ejection.health[0].ejected_until == 5.0
    assert not fail(ejection, 0, 5.0, times=2), "counted from zero after the return"


def test_no_more_than_the_fraction_are_out_and_the_next_follows_when_there_is_room() -> None:
    ejection = Ejection(SETTINGS, 5)
    assert fail(ejection, 0, 0.0)
    assert fail(ejection, 1, 1.0)
    assert not fail(ejection, 2, 2.0)
    assert not fail(ejection, 2, 4.9)
    assert ejection.record(2, Outcome.FAILURE, 5.0), "endpoint 0 is back"


def test_fractions_are_not_lost_to_binary_arithmetic() -> None:
    ejection = Ejection(EjectionSettings(consecutive_failures=1, max_fraction=0.29), 100)
    assert sum(fail(ejection, index, 0.0, times=1) for index in range(100)) == 29


def test_the_last_available_endpoint_stays() -> None:
    settings = EjectionSettings(consecutive_failures=3, max_fraction=1.0)
    alone = Ejection(settings, 1)
    assert not fail(alone, 0, 0.0, times=50)
    three = Ejection(settings, 3)
    three.health[2].healthy = False
    assert fail(three, 0, 0.0)
    assert not fail(three, 1, 0.0, times=50)
    three.health[2].healthy = True
    assert fail(three, 1, 0.0, times=1)


def test_an_unhealthy_endpoint_is_not_available_though_not_ejected() -> None:
    ejection = Ejection(SETTINGS, 2)
    ejection.health[0].healthy = False
    assert not ejection.health[0].available(0.0)
    assert not ejection.health[0].ejected(0.0)


@given(
    st.integers(1, 6),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.lists(st.tuples(st.integers(0, 5), st.sampled_from(Outcome), st.sampled_from([0.0, 0.5, 7.0])), max_size=200),
)
def test_bounds_hold_whatever_happens(
    endpoints: int, max_fraction: float, events: list[tuple[int, Outcome, float]]
) -> None:
    ejection = Ejection(EjectionSettings(2, 5.0, 60.0, max_fraction), endpoints)
    now = 0.0
    for index, outcome, elapsed in events:
        now += elapsed
        standing = ejection.health[index % endpoints]
        was_out = standing.ejected(now)
        if ejection.record(index % endpoints, outcome, now):
            assert outcome is Outcome.FAILURE
            assert not was_out
            assert 5.0 <= standing.ejected_until - now <= 60.0
        assert ejection.ejected_count(now) <= max_fraction * endpoints
        assert any(standing.available(now) for standing in ejection.health)

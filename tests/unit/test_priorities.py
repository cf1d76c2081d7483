"""Priorities at a limit and in its queue: who is refused first, and who is next."""

import pytest

from gateway.policy.limit import ConcurrencyLimit, LimitSettings
from gateway.policy.priority import BY_PRIORITY, PRIORITIES, WHOLE, caps, class_of
from gateway.policy.waiting import Waiter
from gateway.proxy.requests.priority_header import PriorityHeader

CRITICAL, HIGH, NORMAL, LOW, BACKGROUND = range(5)


def held(places: int, limit: int = 100, queue: int = 0, client_share: float = 1.0) -> ConcurrencyLimit:
    made = ConcurrencyLimit(LimitSettings(limit, queue, 1.0, client_share), BY_PRIORITY)
    for _ in range(places):
        assert made.try_acquire(CRITICAL)
    return made


def wait(limit: ConcurrencyLimit, now: float, priority: int = CRITICAL, client: str = "a") -> Waiter:
    waiter = limit.enqueue(None, now, priority, client)
    assert waiter is not None
    return waiter


@pytest.mark.parametrize(
    ("places", "admitted"),
    [
        (49, [True, True, True, True, True]),
        (50, [True, True, True, True, False]),
        (75, [True, True, True, False, False]),
        (90, [True, True, False, False, False]),
        (95, [True, False, False, False, False]),
        (100, [False, False, False, False, False]),
    ],
)
def test_as_the_limit_fills_the_lowest_class_is_refused_first(places: int, admitted: list[bool]) -> None:
    assert [held(places).try_acquire(priority) for priority in range(5)] == admitted


def test_a_small_limit_has_one_place_for_each_class() -> None:
    assert caps(1, BY_PRIORITY) == [1, 1, 1, 1, 1]
    assert caps(8, BY_PRIORITY) == [8, 7, 7, 6, 4]
    assert caps(0, BY_PRIORITY) == [0, 0, 0, 0, 0]
    assert caps(8, WHOLE) == [8] * 5


def test_the_better_class_is_next() -> None:
    limit = held(100, queue=20)
    background, normal, critical = (wait(limit, 0.0, each) for each in (BACKGROUND, NORMAL, CRITICAL))
    assert limit.release(0.001) is critical
    for _ in range(10):
        assert limit.release(0.001) is None
    assert limit.release(0.001) is normal, "only below 90 % of the limit"
    assert list(limit.queue) == [background]


def test_a_class_fills_only_its_part_of_the_queue() -> None:
    limit = held(100, queue=20)
    for _ in range(10):
        wait(limit, 0.0, BACKGROUND)
    assert not limit.may_wait(BACKGROUND)
    for _ in range(5):
        wait(limit, 0.0, LOW)
    assert not limit.may_wait(LOW)
    assert limit.may_wait(CRITICAL)


def test_clients_take_turns_whatever_each_has_waiting() -> None:
    limit = held(100, queue=20)
    first = [wait(limit, 0.0, client="a") for _ in range(3)]
    other = wait(limit, 0.001, client="b")
    assert [limit.release(0.002) for _ in range(4)] == [first[0], other, first[1], first[2]]


def test_a_queue_that_stands_serves_the_newest_first() -> None:
    limit = held(100, queue=20)
    waiters = [wait(limit, 0.005 * number) for number in range(4)]
    assert limit.release(0.02) is waiters[0], "nobody has waited for more than 20 ms"
    assert limit.release(0.03) is waiters[3]
    assert limit.release(0.03) is waiters[2]


def test_one_client_has_at_most_its_share_of_the_queue() -> None:
    limit = held(100, queue=8, client_share=0.25)
    wait(limit, 0.0, client="a")
    gone = wait(limit, 0.0, client="a")
    assert not limit.may_wait(CRITICAL, "a")
    assert limit.enqueue(None, 0.0, CRITICAL, "a") is None
    assert limit.may_wait(CRITICAL, "b")
    assert limit.abandon(gone)
    assert limit.may_wait(CRITICAL, "a")


def test_a_limit_that_grows_takes_in_those_who_wait() -> None:
    limit = held(10, limit=10, queue=20)
    waiters = [wait(limit, 0.0) for _ in range(4)]
    assert limit.resize(12, 0.001) == waiters[:2]
    assert (limit.in_flight, limit.limit) == (12, 12)


def test_a_limit_that_shrinks_takes_nothing_away() -> None:
    limit = held(10, limit=10, queue=20)
    waiter = wait(limit, 0.0)
    assert limit.resize(9, 0.0) == []
    assert limit.release(0.0) is None, "there were more than there may be"
    assert limit.in_flight == 9
    assert limit.release(0.0) is waiter


def test_a_class_has_a_name_and_nothing_else_is_one() -> None:
    assert [class_of(name) for name in PRIORITIES] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="urgent"):
        class_of("urgent")


@pytest.mark.parametrize(
    ("lines", "priority"),
    [
        (b"", HIGH),
        (b"X-Priority: low\r\n", LOW),
        (b"x-priority:BACKGROUND \r\n", BACKGROUND),
        (b"X-Priority: critical\r\n", HIGH),
        (b"X-Priority: urgent\r\n", HIGH),
        (b"X-Priority: lowest\r\n", HIGH),
        (b"X-Priority: low\r\nX-Priority: normal\r\n", LOW),
        (b"X-Other: 1\r\nX-Priority: normal\r\nX-Third: 2\r\n", NORMAL),
        (b"XX-Priority: low\r\n", HIGH),
    ],
)
def test_a_field_lowers_a_priority_and_never_raises_it(lines: bytes, priority: int) -> None:
    assert PriorityHeader("X-Priority").lowered(HIGH, lines) == priority

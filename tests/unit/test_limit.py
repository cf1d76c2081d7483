import pytest

from gateway.policy.limit import ConcurrencyLimit, LimitSettings
from gateway.policy.waiting import Waiter


def full(limit: int = 1, max_queue: int = 2, queue_timeout: float = 1.0) -> ConcurrencyLimit:
    made = ConcurrencyLimit(LimitSettings(limit, max_queue, queue_timeout))
    for _ in range(limit):
        assert made.try_acquire()
    return made


def wait(limit: ConcurrencyLimit, payload: object, now: float) -> Waiter:
    waiter = limit.enqueue(payload, now)
    assert waiter is not None
    return waiter


def test_no_more_than_the_limit_and_a_released_slot_is_free_again() -> None:
    limit = full(limit=2)
    assert not limit.try_acquire()
    assert limit.release(0.0) is None
    assert limit.in_flight == 1
    assert limit.try_acquire()
    assert not limit.try_acquire()
    assert repr(limit) == "<ConcurrencyLimit 2/2, queued=0>"


def test_a_slot_is_handed_to_the_oldest_waiter_and_never_becomes_free() -> None:
    limit = full()
    first, second = wait(limit, "a", 0.0), wait(limit, "b", 0.01)
    assert limit.release(0.015) is first
    assert first.payload == "a"
    assert not limit.try_acquire(), "a newcomer overtook"
    assert limit.release(0.6) is second
    assert limit.release(0.7) is None
    assert (limit.in_flight, limit.queued) == (0, 0)


def test_the_queue_is_bounded_by_those_who_still_wait() -> None:
    limit = full(max_queue=2)
    first = wait(limit, 1, 0.0)
    wait(limit, 2, 0.0)
    assert limit.enqueue(3, 0.0) is None
    assert limit.abandon(first)
    wait(limit, 3, 0.0)
    assert limit.queued == 2


@pytest.mark.parametrize("settings", [LimitSettings(1), LimitSettings(1, 5, 0.0), LimitSettings(1, 0, 5.0)])
def test_without_a_queue_nobody_waits(settings: LimitSettings) -> None:
    limit = ConcurrencyLimit(settings)
    assert limit.try_acquire()
    assert limit.enqueue("a", 0.0) is None
    assert limit.next_deadline is None


def test_a_deadline_that_has_come_ends_the_wait() -> None:
    limit = full(queue_timeout=1.0)
    first, second = wait(limit, "a", 0.0), wait(limit, "b", 0.5)
    assert limit.next_deadline == 1.0
    assert limit.expire(0.999) == []
    assert limit.expire(1.0) == [first]
    assert limit.next_deadline == 1.5
    assert limit.expire(2.0) == [second]
    assert limit.next_deadline is None


def test_an_overdue_waiter_is_not_resumed_but_expired() -> None:
    limit = full(queue_timeout=1.0)
    late, live = wait(limit, "a", 0.0), wait(limit, "b", 0.5)
    assert limit.release(1.0) is live
    assert limit.queued == 0
    assert limit.next_deadline == 1.0, "somebody has to be told"
    assert limit.expire(1.0) == [late]
    assert limit.expire(1.0) == []


def test_when_all_are_overdue_the_slot_is_freed() -> None:
    limit = full(queue_timeout=1.0)
    late = wait(limit, "a", 0.0)
    assert limit.release(5.0) is None
    assert limit.try_acquire()
    assert limit.expire(5.0) == [late]


def test_who_left_is_neither_resumed_nor_expired() -> None:
    limit = full(queue_timeout=1.0)
    gone, overdue, live = wait(limit, "a", 0.0), wait(limit, "b", 0.0), None
    assert limit.abandon(gone)
    assert not limit.abandon(gone)
    live = wait(limit, "c", 0.5)
    assert limit.release(1.2) is live
    assert limit.abandon(overdue), "passed over, but not told yet"
    assert limit.expire(9.0) == []


def test_leaving_after_the_hand_over_leaves_the_slot_to_be_released() -> None:
    limit = full()
    waiter = wait(limit, "a", 0.0)
    assert limit.release(0.1) is waiter
    assert not limit.abandon(waiter)
    assert limit.in_flight == 1
    limit.release(0.2)
    assert limit.in_flight == 0


def test_misuse_is_an_error_and_not_a_leak() -> None:
    limit = full()
    limit.release(0.0)
    with pytest.raises(RuntimeError, match="more often"):
        limit.release(0.0)
    with pytest.raises(RuntimeError, match="a slot is free"):
        limit.enqueue("a", 0.0)

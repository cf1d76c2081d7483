"""How the time limit follows what a peer usually takes, and the alarm that keeps it."""

import asyncio
import random
import time

import pytest

from gateway.alarm import Alarm
from gateway.policy.time_limit import TimeLimit


def test_a_near_peer_has_the_least() -> None:
    limit = TimeLimit(0.05, 0.25)
    assert limit.seconds == 0.05
    for _ in range(100):
        limit.record(0.002)
    assert limit.seconds == 0.05


def test_a_far_peer_is_waited_for_from_its_first_answer_on() -> None:
    limit = TimeLimit(0.05, 0.25)
    limit.record(0.06)
    assert limit.seconds == pytest.approx(0.18)  # RFC 6298: R + 4 · R/2


@pytest.mark.parametrize(("lowest", "highest"), [(0.03, 0.07), (0.05, 0.15)])
def test_what_is_usual_is_in_time(lowest: float, highest: float) -> None:
    rng = random.Random(1)
    limit = TimeLimit(0.05, 0.25)
    late = 0
    for _ in range(1000):
        answer = rng.uniform(lowest, highest)
        late += answer > limit.seconds
        limit.record(answer)
    assert late <= 10
    assert limit.seconds <= 0.25


def test_slow_answers_now_and_then_are_expected_for_a_while() -> None:
    limit = TimeLimit(0.05, 0.25)
    for _ in range(50):
        limit.record(0.002)
    limit.record(0.105)
    for _ in range(15):
        limit.record(0.002)
        assert limit.seconds > 0.06
    for _ in range(200):
        limit.record(0.002)
    assert limit.seconds == 0.05


def test_a_peer_that_was_away_says_nothing_of_what_is_usual() -> None:
    limit = TimeLimit(0.05, 0.25)
    limit.record(0.002)
    limit.record(3.0)
    assert limit.seconds == 0.05


def test_the_least_may_be_beyond_the_most() -> None:
    limit = TimeLimit(0.5, 0.25)
    limit.record(0.4)
    assert limit.seconds == 0.5


async def test_an_alarm_rings_once_unless_it_is_cancelled() -> None:
    rung: list[str] = []
    loop = asyncio.get_running_loop()
    first = Alarm(loop, 0.01, lambda: rung.append("first"))
    second = Alarm(loop, 0.01, lambda: rung.append("second"))
    second.cancel()
    await asyncio.sleep(0.1)
    assert (rung, first.rang, second.rang) == (["first"], True, False)


async def test_a_stall_of_this_process_is_no_fault_of_the_peer() -> None:
    rung: list[str] = []
    alarm = Alarm(asyncio.get_running_loop(), 0.02, lambda: rung.append("rang"))
    time.sleep(0.1)  # noqa: ASYNC251 - the stall is what is tested
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert rung == []  # what has arrived meanwhile is read first
    alarm.cancel()

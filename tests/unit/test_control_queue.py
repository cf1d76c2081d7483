"""The queue before the control plane: who is let in, in what order, and what it is charged for."""

import asyncio
from functools import partial
from types import coroutine
from typing import Any

import pytest

from gateway.control.serving.allowance import Allowance
from gateway.control.serving.queue import MAX_WAITING, MAX_WAITING_OF_PEER, Queue, metered


async def settle(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.001)


class Charged:
    """Notes what is charged."""

    def __init__(self) -> None:
        self.spent: list[float] = []
        self.turn_is_over = False

    def spend(self, seconds: float) -> None:
        self.spent.append(seconds)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def queue() -> tuple[Queue, Clock]:
    clock = Clock()
    return Queue(Allowance(share=0.5, burst=0.1, clock=clock)), clock


async def test_a_request_is_let_in_at_once_while_there_is_time() -> None:
    line, _ = queue()
    went: list[str] = []
    line.enter("a", lambda: went.append("a"))
    assert went == ["a"]


async def test_the_next_one_comes_later_but_before_long() -> None:
    line, _ = queue()
    went: list[int] = []
    for number in range(5):
        line.enter("a", partial(went.append, number))
    assert went == [0]
    await settle(lambda: len(went) == 5)
    assert went == [0, 1, 2, 3, 4]


async def test_nobody_is_let_in_beyond_the_share_and_peers_take_turns() -> None:
    line, clock = queue()
    line.spend(1.0)
    went: list[str] = []
    for peer in ("a", "a", "a", "b", "c"):
        line.enter(peer, partial(went.append, peer))
    for _ in range(5):
        await asyncio.sleep(0.002)
    assert went == []
    clock.now = 100.0
    await settle(lambda: len(went) == 5)
    assert went == ["a", "b", "c", "a", "a"]
    assert len(line) == 0


async def test_who_leaves_is_passed_over() -> None:
    line, clock = queue()
    line.spend(1.0)
    went: list[int] = []
    places = [line.enter("a", partial(went.append, number)) for number in range(3)]
    assert places[0] is not None
    places[0].cancel()
    clock.now = 100.0
    await settle(lambda: len(went) == 2)
    assert went == [1, 2]


async def test_too_many_are_refused_and_one_peer_does_not_take_all_places() -> None:
    line, _ = queue()
    line.spend(1.0)
    taken = [line.enter("a", lambda: None) for _ in range(MAX_WAITING_OF_PEER + 1)]
    assert None not in taken[:-1]
    assert taken[-1] is None
    peers = [line.enter(str(number), lambda: None) for number in range(MAX_WAITING - MAX_WAITING_OF_PEER + 1)]
    assert None not in peers[:-1]
    assert peers[-1] is None


async def test_what_is_charged_is_the_time_of_running_and_not_of_waiting() -> None:
    clock = Clock()
    charged = Charged()

    @coroutine
    def waits() -> Any:
        clock.now += 2.0
        got = yield "wait"
        clock.now += 3.0
        return got

    async def work() -> str:
        return str(await waits())

    steps = metered(work(), charged, clock).__await__()
    assert steps.send(None) == "wait"
    clock.now += 50.0
    with pytest.raises(StopIteration) as ended:
        steps.send("answer")
    assert ended.value.value == "answer"
    assert charged.spent == [2.0, 3.0]


async def test_what_is_thrown_goes_through_both_ways() -> None:
    charged = Charged()
    started = asyncio.Event()
    cleaned = []

    async def work() -> None:
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async def outer() -> None:
        await metered(work(), charged)

    task = asyncio.create_task(outer())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == [True]
    assert len(charged.spent) == 2

    async def fails() -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        await metered(fails(), charged)


async def test_those_that_wait_for_the_same_answer_go_on_one_in_a_turn() -> None:
    line = Queue()
    clock = Clock()
    answer = asyncio.get_running_loop().create_future()
    turns = [0]
    on = True

    def next_turn() -> None:
        turns.append(0)
        if on:
            asyncio.get_running_loop().call_soon(next_turn)

    async def work() -> None:
        await answer
        clock.now += 0.01
        turns[-1] += 1

    async def outer() -> None:
        await metered(work(), line, clock)

    tasks = [asyncio.create_task(outer()) for _ in range(5)]
    await asyncio.sleep(0.01)
    next_turn()
    answer.set_result(None)
    await asyncio.gather(*tasks)
    on = False
    assert [each for each in turns if each] == [1] * 5


async def test_who_is_cancelled_while_the_turn_is_over_hears_of_it() -> None:
    charged = Charged()
    charged.turn_is_over = True
    begun = []

    async def work() -> None:
        begun.append(True)

    async def outer() -> None:
        await metered(work(), charged)

    task = asyncio.create_task(outer())
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not begun

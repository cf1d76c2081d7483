"""Those who listen to the live view: bounded in number and in what waits for each."""

import asyncio

import pytest

from gateway.control.live.broadcast import MOST_WAITING, Listener


async def test_events_come_in_their_order_and_together() -> None:
    listener = Listener()
    listener.put(b"a")
    listener.put(b"b")
    assert await listener.next() == b"ab"
    waiting = asyncio.ensure_future(listener.next())
    await asyncio.sleep(0)
    listener.put(b"c")
    assert await waiting == b"c"


async def test_what_came_before_the_end_is_taken_first() -> None:
    listener = Listener()
    listener.put(b"last")
    listener.end()
    listener.put(b"too late")
    assert await listener.next() == b"last"
    assert await listener.next() is None
    assert not listener.slow


async def test_who_does_not_keep_up_is_given_up() -> None:
    listener = Listener()
    for _ in range(MOST_WAITING):
        listener.put(b"x")
    assert not listener.ended
    listener.put(b"one too many")
    assert listener.slow
    assert await listener.next() is None


@pytest.mark.parametrize("events", [1, MOST_WAITING])
async def test_who_takes_everything_has_room_again(events: int) -> None:
    listener = Listener()
    for _ in range(3):
        for _ in range(events):
            listener.put(b"x")
        assert await listener.next() == b"x" * events
    assert not listener.slow

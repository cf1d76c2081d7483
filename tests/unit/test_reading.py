"""Reading in turns: who rests, who is read next, and how many of them in one turn of the loop."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any, cast

from gateway.wire.reading import Reading, Turns


class FakeLoop:
    """Calls what was scheduled in one turn when the test says so."""

    def __init__(self) -> None:
        self._soon: list[Callable[[], None]] = []

    def call_soon(self, callback: Callable[[], None]) -> None:
        self._soon.append(callback)

    def turn(self) -> None:
        due, self._soon = self._soon, []
        for callback in due:
            callback()

    def scheduled(self) -> int:
        return len(self._soon)


class FakeTransport:
    def __init__(self, *, tls: bool = False) -> None:
        self.tls = tls
        self.paused = False
        self.closing = False

    def get_extra_info(self, name: str) -> Any:
        return object() if name == "sslcontext" and self.tls else None

    def set_read_buffer_limits(self, high: int) -> None:
        assert self.tls
        assert high == 16_384

    def is_closing(self) -> bool:
        return self.closing

    def pause_reading(self) -> None:
        assert not self.paused
        self.paused = True

    def resume_reading(self) -> None:
        assert self.paused
        assert not self.closing
        self.paused = False

    def is_read(self) -> bool:
        return not self.paused


class Bench:
    def __init__(self) -> None:
        self.loop = FakeLoop()
        self.spent = 0.0
        self.turns = Turns(cast(asyncio.AbstractEventLoop, self.loop), lambda: self.spent)

    def reading(self, *, tls: bool = False) -> tuple[Reading, FakeTransport]:
        transport = FakeTransport(tls=tls)
        loop = cast(asyncio.AbstractEventLoop, self.loop)
        return Reading(cast(asyncio.Transport, transport), loop, self.turns), transport


def test_after_a_large_read_others_come_first() -> None:
    bench = Bench()
    reading, transport = bench.reading()
    reading.rest()
    reading.rest()
    assert not transport.is_read()
    assert bench.loop.scheduled() == 1
    bench.loop.turn()
    assert transport.is_read()
    assert bench.loop.scheduled() == 0


def test_who_rests_can_be_stopped_and_started_meanwhile() -> None:
    bench = Bench()
    reading, transport = bench.reading()
    reading.rest()
    reading.stop()
    bench.loop.turn()
    assert not transport.is_read()
    reading.start()
    assert transport.is_read()
    reading.rest()
    reading.stop()
    reading.start()
    assert not transport.is_read()
    bench.loop.turn()
    assert transport.is_read()
    reading.stop()
    reading.rest()
    reading.start()
    assert not transport.is_read()
    bench.loop.turn()
    assert transport.is_read()


def test_a_transport_that_goes_to_another_protocol_is_read() -> None:
    bench = Bench()
    reading, transport = bench.reading()
    reading.stop()
    reading.rest()
    reading.leave()
    assert transport.is_read()
    # The next owner has stopped it.
    transport.pause_reading()
    bench.loop.turn()
    assert not transport.is_read()


def test_a_transport_that_closes_is_left_alone() -> None:
    bench = Bench()
    reading, transport = bench.reading()
    reading.rest()
    transport.closing = True
    bench.loop.turn()
    assert not transport.is_read()
    reading.rest()
    assert bench.loop.scheduled() == 0


def test_what_costs_much_is_read_one_by_one_in_the_order_of_coming() -> None:
    bench = Bench()
    members = [bench.reading() for _ in range(40)]
    for reading, _ in members:
        reading.rest()
    for turn in range(40):
        bench.spent += 0.01
        bench.loop.turn()
        assert [transport.is_read() for _, transport in members] == [at <= turn for at in range(40)]
    assert bench.loop.scheduled() == 0


def test_what_costs_little_is_read_all_at_once_soon() -> None:
    bench = Bench()
    members = [bench.reading() for _ in range(40)]
    for _ in range(6):
        for reading, _ in members:
            reading.rest()
        while bench.loop.scheduled():
            bench.spent += 0.0005
            bench.loop.turn()
    for reading, _ in members:
        reading.rest()
    bench.loop.turn()
    assert all(transport.is_read() for _, transport in members)
    # And the other way round, when that turn has been dear.
    widths = []
    for _ in range(10):
        for reading, _ in members:
            reading.rest()
        bench.spent += 0.1
        bench.loop.turn()
        widths.append(bench.turns.width)
    assert widths[:3] == [32, 16, 8]
    assert widths[-1] == 1


def test_under_tls_each_read_counts() -> None:
    bench = Bench()
    assert bench.reading(tls=True)[0].large == 0
    assert bench.reading()[0].large == 16_384


def test_what_is_only_passed_on_rests_after_every_fourth_read() -> None:
    bench = Bench()
    reading, transport = bench.reading()
    for _ in range(2):
        rested = []
        for _ in range(4):
            reading.passed()
            rested.append(not transport.is_read())
        assert rested == [False, False, False, True]
        bench.loop.turn()
    under_tls, transport = bench.reading(tls=True)
    under_tls.passed()
    assert not transport.is_read()


def test_a_closed_connection_leaves_the_queue() -> None:
    bench = Bench()
    gone, gone_transport = bench.reading()
    next_one, next_transport = bench.reading()
    gone.rest()
    next_one.rest()
    gone_transport.closing = True
    gone.end()
    del gone
    assert sys.getrefcount(gone_transport) == 2
    bench.loop.turn()
    assert next_transport.is_read()
    assert bench.loop.scheduled() == 0

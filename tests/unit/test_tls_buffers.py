"""TLS connections whose buffers have grown: counted, written to in records, and not kept idle when there are many."""

import asyncio
import time
from typing import Any, cast

from gateway.wire import ports
from gateway.wire.message.request import Limits
from gateway.wire.ports import Connection
from gateway.wire.server.connection import ServerConnection
from gateway.wire.server.registry import Server
from gateway.wire.server.tls_buffers import GROWN_KEEPALIVE, MAX_GROWN, MOST_GROWN, GrownConnections, map_large_blocks
from gateway.wire.server.transitions import State


class Transport:
    def __init__(self) -> None:
        self.writes: list[int] = []
        self.high = 0
        self.unsent = 0
        self.paused = 0

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused -= 1

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def get_extra_info(self, name: str) -> Any:
        return {"peername": ("192.0.2.1", 1234), "sslcontext": object()}.get(name)

    def set_read_buffer_limits(self, high: int) -> None:
        self.high = high

    def write(self, data: bytes) -> None:
        self.writes.append(len(data))

    def is_closing(self) -> bool:
        return False

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


class Loop:
    def call_soon(self, *_: object) -> None: ...
    def call_later(self, *_: object) -> None: ...


class Front(ports.Front):
    """Answers nothing: the test finishes the request."""

    def begin(self, connection: Connection, request: object) -> Any:
        return self

    def __getattr__(self, name: str) -> Any:
        return lambda *_: None


def connected(scheme: str = "https", front: Front | None = None) -> tuple[ServerConnection, Transport, Server]:
    server = Server(cast(Any, Loop()), cast(Any, front or Front()), limits=Limits(), scheme=scheme)
    connection = ServerConnection(server)
    transport = Transport()
    connection.connection_made(cast(asyncio.BaseTransport, transport))
    return connection, transport, server


def ask(connection: ServerConnection, padding: int = 0) -> None:
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * padding + b"\r\n\r\n")


def test_large_blocks_are_written_in_records() -> None:
    connection, transport, server = connected()
    connection.write(bytes(40_000))
    connection.write(bytes(16_384))
    assert transport.writes == [16_384, 16_384, 7_232, 16_384]
    assert server.grown.count == 1
    plain, transport, server = connected("http")
    plain.write(bytes(40_000))
    assert transport.writes == [40_000]
    assert server.grown.count == 0


def test_what_is_collected_while_it_rests_is_bounded() -> None:
    _, transport, _ = connected()
    assert transport.high == 16_384


def test_a_grown_connection_is_kept_while_there_are_few() -> None:
    for others, grows, short in ((0, True, False), (MAX_GROWN, True, True), (MAX_GROWN, False, False)):
        connection, _, server = connected()
        for _ in range(others):
            server.grown.enter(Waiting("never"))
        ask(connection, 20_000 if grows else 20)
        assert server.grown.count == others + grows
        now = time.monotonic()
        connection.answer(b"HTTP/1.1 204 \r\n\r\n", now, True)
        assert connection.deadline == now + (GROWN_KEEPALIVE if short else server.keepalive_timeout)
        connection.abort()
        assert server.grown.count == others


def state_of(connection: ServerConnection) -> State:
    return connection.state


class Waiting:
    """Gives its memory back when it is let: at once, only when there is no patience left, or never."""

    def __init__(self, fate: str = "at once") -> None:
        self.fate = fate
        self.gone = False

    def give_back(self, *, patient: bool) -> bool:
        self.gone = self.fate == "at once" or (self.fate == "late" and not patient)
        return self.gone


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def crowd(fates: list[str]) -> tuple[GrownConnections, list[Waiting], Clock]:
    """As many as may be, with the first ones of these kinds and the others with a request in flight."""
    clock = Clock()
    grown = GrownConnections(clock)
    everybody = [Waiting(fate) for fate in [*fates, *["never"] * (MOST_GROWN - len(fates))]]
    for each in everybody:
        grown.enter(each)
    assert not any(each.gone for each in everybody)
    return grown, everybody, clock


def test_at_the_limit_the_one_that_has_waited_longest_goes() -> None:
    grown, everybody, clock = crowd(["at once", "at once", "at once"])
    grown.wait(everybody[0], clock.now + 1)
    grown.enter(Waiting())
    assert [each.gone for each in everybody[:3]] == [False, True, False]
    assert grown.count == MOST_GROWN + 1
    grown.leave(everybody[1])
    assert grown.count == MOST_GROWN


def test_who_is_owed_bytes_goes_last_and_late() -> None:
    grown, everybody, clock = crowd(["late", "at once"])
    clock.now += 60
    grown.enter(Waiting("never"))
    assert [each.gone for each in everybody[:2]] == [False, True]
    grown, everybody, clock = crowd(["late"])
    clock.now += 4.9
    grown.enter(Waiting("never"))
    assert not everybody[0].gone
    # Each time others are looked at, until it is this one's turn again.
    clock.now += 0.2
    for _ in range(MOST_GROWN // 16 + 1):
        grown.enter(Waiting("never"))
    assert everybody[0].gone


def test_a_connection_gives_back_when_nothing_is_lost_by_it() -> None:
    connection, transport, _ = connected()
    ask(connection, 20_000)
    assert not connection.give_back(patient=False)
    connection.answer(b"HTTP/1.1 204 \r\n\r\n", time.monotonic(), True)
    transport.unsent = 5
    assert not connection.give_back(patient=True)
    transport.unsent = 0
    assert connection.give_back(patient=True)
    assert state_of(connection) is State.LINGER
    connection.data_received(b"late")
    assert connection.give_back(patient=True)
    assert state_of(connection) is State.GONE
    assert not connection.give_back(patient=False)


def test_half_a_head_is_waited_for_only_so_long() -> None:
    connection, _, server = connected()
    connection.data_received(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20_000)
    assert server.grown.count == 1
    assert not connection.give_back(patient=True)
    assert connection.give_back(patient=False)
    assert server.grown.count == 0


class GivesAway(Front):
    """Gives each connection away, as is done for the control plane."""

    received = b""

    def begin(self, connection: Connection, request: object) -> Any:
        _, self.received = connection.hand_over()
        return None


def test_what_comes_after_a_connection_was_given_away_counts_nothing() -> None:
    front = GivesAway()
    connection, transport, server = connected(front=front)
    head, more = b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", b"x" * 20_000
    connection.data_received(head + more)
    assert front.received == head + more
    connection.data_received(more)
    assert state_of(connection) is State.GONE
    assert server.grown.count == 0
    assert transport.paused == 0


def test_malloc_is_told() -> None:
    assert map_large_blocks() in {True, False}

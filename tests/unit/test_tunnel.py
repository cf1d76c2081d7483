"""When a tunnel is ended by the gateway, and when one that is closing is given up: only when nothing moves, and then in
a known time."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from gateway.wire.tunnel import Tunnel, TunnelLimits
from tests.support.fake_transport import FakeTransport


class Transport(FakeTransport):
    """Over a real socket, of which the kernel knows what is not confirmed."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self.socket.close()
        self._real = sock

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._real if name == "socket" else default


@pytest.fixture
def transports() -> Iterator[tuple[Transport, Transport]]:
    """Real sockets, which have nothing in their queues."""
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()) as one:
        other, _ = listener.accept()
        with other:
            one.setblocking(False)
            other.setblocking(False)
            yield Transport(one), Transport(other)


LIMITS = TunnelLimits(idle_timeout=100.0, stall_timeout=30.0, ping_interval=20.0, buffer_bytes=10_000)


def tunnel_of(
    transports: tuple[Transport, Transport],
    closed: list[Tunnel],
    limits: TunnelLimits = LIMITS,
    clock: Callable[[], float] = lambda: 0.0,
) -> Tunnel:
    tunnel = Tunnel(*transports, limits, closed.append, clock)
    tunnel.start(from_client=b"", from_upstream=b"")
    return tunnel


async def test_it_lasts_while_the_reader_takes_anything(transports: tuple[Transport, Transport]) -> None:
    client, upstream = transports
    tunnel = tunnel_of(transports, [])
    client.buffered = 1000
    assert upstream.protocol.eof_received() is True
    assert client.calls == ["write_eof"]
    now = tunnel.deadline
    for left in range(999, 0, -10):
        client.buffered = left
        now += 9.0
        tunnel.expire(now)
        assert "abort" not in client.calls
        assert now < tunnel.deadline < now + 2.0
    tunnel.expire(now + 9.0)
    assert "abort" not in client.calls
    tunnel.expire(now + 10.0)
    assert (client.calls[-1], upstream.calls[-1]) == ("abort", "abort")


async def test_without_anything_to_take_the_other_end_is_waited_for_two_seconds(
    transports: tuple[Transport, Transport],
) -> None:
    client, upstream = transports
    tunnel = tunnel_of(transports, [])
    upstream.protocol.eof_received()
    now = tunnel.deadline
    tunnel.expire(now)
    assert "abort" not in client.calls
    client.protocol.data_received(b"\x88\x80\x00\x00\x00\x00")
    assert upstream.written == b"\x88\x80\x00\x00\x00\x00"
    tunnel.expire(now + 1.9)
    tunnel.expire(now + 3.8)
    assert "abort" not in client.calls
    tunnel.expire(now + 3.95)
    assert "abort" in client.calls


async def test_a_stop_of_the_gateway_does_not_wait_for_who_takes_nothing(
    transports: tuple[Transport, Transport],
) -> None:
    client, _ = transports
    tunnel = tunnel_of(transports, [])
    client.buffered = 1000
    tunnel.close()
    now = tunnel.deadline
    tunnel.expire(now)
    assert "abort" not in client.calls
    tunnel.expire(now + 2.0)
    assert "abort" in client.calls


async def test_it_is_over_once_when_both_are_gone(transports: tuple[Transport, Transport]) -> None:
    client, upstream = transports
    closed: list[Tunnel] = []
    tunnel = tunnel_of(transports, closed)
    client.protocol.eof_received()
    assert (upstream.calls, tunnel.ended_by) == (["write_eof"], "client")
    upstream.protocol.eof_received()
    assert (client.calls[-1], upstream.calls[-1]) == ("close", "close")
    client.protocol.connection_lost(None)
    assert closed == []
    upstream.protocol.connection_lost(None)
    assert closed == [tunnel]


async def test_what_still_comes_for_nobody_is_read_and_dropped(transports: tuple[Transport, Transport]) -> None:
    client, upstream = transports
    tunnel_of(transports, [])
    upstream.protocol.connection_lost(None)
    assert client.calls == ["write_eof"]
    client.protocol.data_received(b"\x89\x80\x00\x00\x00\x00")
    assert upstream.written == b""


CLOSE_1013 = b"\x88\x02\x03\xf5"
CLOSE_1001 = b"\x03\xe9"


def without_mask(frame: bytes) -> bytes:
    """A short masked frame as it would be without its mask."""
    assert frame[1] & 0x80
    return bytes((frame[0], frame[1] & 0x7F)) + bytes(b ^ frame[2 + i % 4] for i, b in enumerate(frame[6:]))


class Clock:
    """Goes on when it is told to, and looks at the tunnel at each of its deadlines."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.tunnel: Tunnel

    def __call__(self) -> float:
        return self.now

    def passes(self, seconds: float) -> None:
        end = self.now + seconds
        while self.now < self.tunnel.deadline <= end:
            self.now = self.tunnel.deadline
            self.tunnel.expire(self.now)
        self.now = end


def clocked(transports: tuple[Transport, Transport], ping_interval: float = 20.0) -> tuple[Tunnel, Clock]:
    clock = Clock()
    clock.tunnel = tunnel_of(transports, [], LIMITS._replace(idle_timeout=1000.0, ping_interval=ping_interval), clock)
    return clock.tunnel, clock


@pytest.mark.parametrize("slow", ["client", "upstream"])
async def test_a_side_that_takes_nothing_ends_it(transports: tuple[Transport, Transport], slow: str) -> None:
    client, upstream = transports
    tunnel, clock = clocked(transports, ping_interval=float("inf"))
    side = client if slow == "client" else upstream
    side.buffered = 5000
    clock.passes(29.0)
    assert tunnel.ended_by == ""
    side.buffered = 4999
    clock.passes(29.0)
    assert tunnel.ended_by == "", "it has taken a byte meanwhile"
    side.buffered = 6000
    before = clock.now
    while not tunnel.ended_by and clock.now < before + 60.0:
        clock.passes(0.5)
    assert tunnel.ended_by == f"backpressure_{slow}"
    assert clock.now <= before + 30.0, "it took the last byte more than 7 s before"
    assert client.written == CLOSE_1013
    assert without_mask(upstream.written)[2:] == CLOSE_1001
    # Whoever takes a little now and then does not draw it out.
    now = clock.now
    while clock.now < now + 9.0:
        side.buffered -= 1
        clock.passes(0.5)
    assert "abort" not in client.calls
    side.buffered -= 1
    tunnel.expire(now + 11.0)
    assert (client.calls[-1], upstream.calls[-1]) == ("abort", "abort")


async def test_no_close_within_a_frame(transports: tuple[Transport, Transport]) -> None:
    client, upstream = transports
    tunnel, clock = clocked(transports, ping_interval=float("inf"))
    upstream.protocol.data_received(b"\x82\x05ab")
    client.buffered = 4
    clock.passes(60.0)
    assert tunnel.ended_by == "backpressure_client"
    assert client.written == b"\x82\x05ab"
    assert without_mask(upstream.written)[2:] == CLOSE_1001
    upstream.protocol.data_received(b"cde")
    assert client.written == b"\x82\x05abcde" + CLOSE_1013
    upstream.protocol.data_received(b"\x82\x00")
    assert client.written == b"\x82\x05abcde" + CLOSE_1013


async def test_silent_sides_get_a_ping_and_the_answer_goes_no_further(transports: tuple[Transport, Transport]) -> None:
    client, upstream = transports
    tunnel, clock = clocked(transports)
    for _ in range(5):
        clock.passes(26.0)
        asked, asked_upstream = client.sent(), without_mask(upstream.sent())
        assert (asked[:2], asked_upstream[:2]) == (b"\x89\x08", b"\x89\x08")
        client.protocol.data_received(b"\x8a\x88\0\0\0\0" + asked[2:])
        upstream.protocol.data_received(b"\x8a\x08" + asked_upstream[2:])
        assert (client.sent(), upstream.sent()) == (b"", b"")
    assert tunnel.ended_by == ""
    # The Pings and Pongs are no traffic: two silent peers are still idle.
    assert (tunnel.bytes_from_client, tunnel.bytes_from_upstream) == (0, 0)
    for _ in range(100):
        clock.passes(10.0)
        for side in transports:
            for ping in filter(None, [side.sent()]):
                if ping[0] == 0x89:
                    pong = b"\x8a\x88\0\0\0\0" + ping[2:] if side is client else b"\x8a\x08" + without_mask(ping)[2:]
                    side.protocol.data_received(pong)
        if tunnel.ended_by:
            break
    assert tunnel.ended_by == "idle"


@pytest.mark.parametrize("dead", ["client", "upstream"])
async def test_a_side_without_a_sign_of_life_ends_it(transports: tuple[Transport, Transport], dead: str) -> None:
    client, upstream = transports
    tunnel, clock = clocked(transports)
    clock.passes(21.0)
    # Any sign of life will do; a peer may answer what it likes.
    if dead == "client":
        upstream.protocol.data_received(b"\x81\x02ok")
    else:
        client.protocol.data_received(b"\x81\x80\0\0\0\0")
    client.sent()
    upstream.sent()
    # The other one gets a further Ping meanwhile.
    clock.passes(40.0)
    assert tunnel.ended_by == f"unresponsive_{dead}"
    assert client.sent().endswith(CLOSE_1013)
    assert without_mask(upstream.sent()[-8:])[2:] == CLOSE_1001


async def test_no_ping_to_whom_the_other_side_has_sent_one(transports: tuple[Transport, Transport]) -> None:
    """A peer may answer only the latest Ping (RFC 6455 section 5.5.3), and the other side would wait in vain."""
    client, upstream = transports
    _, clock = clocked(transports)
    upstream.protocol.data_received(b"\x89\x02up")
    assert client.sent() == b"\x89\x02up"
    clock.passes(25.0)
    assert client.sent() == b""
    client.protocol.data_received(b"\x8a\x82\0\0\0\0up")
    clock.passes(25.0)
    assert client.sent()[:2] == b"\x89\x08"


@pytest.mark.parametrize(
    ("from_client", "from_upstream"),
    [
        (b"\x82\x85\0\0\0\0ab", b""),
        (b"", b"\x82\x05ab"),
        (b"\x88\x80\0\0\0\0", b""),
        (b"", b"\x88\x00"),
    ],
    ids=["within a frame", "within a frame to it", "behind its Close", "behind a Close to it"],
)
async def test_no_ping_where_it_could_not_be_answered(
    transports: tuple[Transport, Transport], from_client: bytes, from_upstream: bytes
) -> None:
    client, upstream = transports
    tunnel, clock = clocked(transports)
    client.protocol.data_received(from_client)
    upstream.protocol.data_received(from_upstream)
    clock.passes(60.0)
    assert (client.written, upstream.written) == (from_upstream, from_client)
    assert tunnel.ended_by == ""


async def test_who_is_not_read_is_not_asked_for_an_answer(transports: tuple[Transport, Transport]) -> None:
    client, _ = transports
    tunnel, clock = clocked(transports)
    clock.passes(21.0)
    client.sent()
    client.protocol.data_received(b"\x81\x80\0\0\0\0")
    # The client takes nothing for now, so the upstream is not read, and its Pong stays where it is.
    client.protocol.pause_writing()
    clock.passes(60.0)
    assert tunnel.ended_by != "unresponsive_upstream"


async def test_no_second_close_follows_that_of_a_side(transports: tuple[Transport, Transport]) -> None:
    client, upstream = transports
    tunnel = tunnel_of(transports, [])
    upstream.protocol.data_received(b"\x88\x02\x03\xe8")
    tunnel.close()
    assert client.written == b"\x88\x02\x03\xe8"
    assert without_mask(upstream.written)[2:] == CLOSE_1001


async def test_no_more_waits_for_a_side_than_the_buffer_holds(transports: tuple[Transport, Transport]) -> None:
    tunnel_of(transports, [])
    for each in transports:
        assert each.limits == (10_000, 2_500)
        assert each.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT) == 10_000

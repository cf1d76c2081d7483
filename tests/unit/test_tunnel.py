"""When a tunnel that is closing is given up: only when nothing moves, and then in a known time."""

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.wire.tunnel import Tunnel
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


def tunnel_of(transports: tuple[Transport, Transport], closed: list[Tunnel]) -> Tunnel:
    tunnel = Tunnel(*transports, idle_timeout=100.0, closed=closed.append)
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

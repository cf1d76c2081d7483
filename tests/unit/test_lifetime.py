"""How long a connection to an upstream may be used: what upstreams announce, and what is drawn for each connection."""

import random
import select
import socket

import pytest

from gateway.wire.client.lifetime import Closed, Lifetime, watch, what_came
from gateway.wire.message.keep_alive import KeepAlive, parse_keep_alive


@pytest.mark.parametrize(
    ("value", "promise"),
    [
        (b"timeout=5", KeepAlive(4.0, None)),
        (b"timeout=5, max=100", KeepAlive(4.0, 99)),
        (b"max=1", KeepAlive(None, 0)),
        (b"max=0", KeepAlive(None, 0)),
        (b"timeout=1", KeepAlive(0.5, None)),
        (b"timeout=0", KeepAlive(0.0, None)),
        (b'Timeout = "15" ,MAX=7,other', KeepAlive(14.0, 6)),
        (b"timeout=5,timeout=3", KeepAlive(2.0, None)),
        (b"300", None),
        (b"timeout=-1, max=many", None),
        (b"timeout=99999999999999999999", None),
        (b"", None),
    ],
)
def test_what_an_upstream_announces(value: bytes, promise: KeepAlive | None) -> None:
    assert parse_keep_alive(value) == promise


def test_connections_made_together_do_not_end_together() -> None:
    rng = random.Random(1)
    drawn = [Lifetime(30.0, 3600.0, 1000).draw(100.0, rng) for _ in range(200)]
    assert all(3340.0 <= expires <= 3700.0 and 900 <= requests <= 1000 for expires, requests in drawn)
    assert len({expires for expires, _ in drawn}) == 200
    assert len({requests for _, requests in drawn}) > 50


def test_no_bound() -> None:
    assert Lifetime(30.0, 0.0, 0).draw(100.0, random.Random(1)) == (float("inf"), float("inf"))


def test_one_request_for_each_connection() -> None:
    assert Lifetime(30.0, 0.0, 1).draw(0.0, random.Random(1))[1] == 1


class OwnSocket:
    """As much of a transport as is looked at."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    def get_extra_info(self, name: str) -> socket.socket:
        assert name == "socket"
        return self.sock


@pytest.mark.parametrize(
    ("sent", "ends", "tls", "cause"),
    [
        (b"", True, False, Closed.UPSTREAM),
        (b"x", False, False, Closed.UNASKED),
        (b"x", True, False, Closed.UNASKED),
        (b"x", True, True, Closed.UPSTREAM),
        (b"x", False, True, Closed.UNASKED),
    ],
)
def test_what_an_idle_connection_has_got(sent: bytes, ends: bool, tls: bool, cause: Closed) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    ours = socket.create_connection(listener.getsockname())
    theirs, _ = listener.accept()
    with listener, ours, theirs:
        transport = OwnSocket(ours)
        look = watch(transport)  # type: ignore[arg-type]  # no more of a transport is used
        assert look(0) == []
        if sent:
            theirs.sendall(sent)
            assert select.select([ours], [], [], 5.0)[0]
        if ends:
            theirs.shutdown(socket.SHUT_WR)
            poll = select.poll()
            poll.register(ours, select.POLLRDHUP)
            assert poll.poll(5000)
        assert what_came(transport, look(0)[0][1], tls=tls) is cause  # type: ignore[arg-type]  # likewise
        if sent:
            assert ours.recv(10) == sent  # nothing was read

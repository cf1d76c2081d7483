"""The Pong to a Ping of the gateway's own is taken out of the stream, and nothing else is."""

import random

import pytest

from gateway.wire.heartbeat import Heartbeat
from gateway.wire.websocket import FrameTracker, has_plain_control_frames

KEY = b"\x01\x02\x03\x04"


def masked(payload: bytes) -> bytes:
    return bytes(byte ^ KEY[index % 4] for index, byte in enumerate(payload))


def frame(first: int, payload: bytes, *, from_client: bool) -> bytes:
    assert len(payload) < 126
    if from_client:
        return bytes((first, 0x80 | len(payload))) + KEY + masked(payload)
    return bytes((first, len(payload))) + payload


def payload_of(ping: bytes, *, to_client: bool) -> bytes:
    assert ping[0] == 0x89
    if to_client:
        return ping[2:]
    assert ping[1] & 0x80
    return bytes(byte ^ ping[2 + index % 4] for index, byte in enumerate(ping[6:]))


class Side:
    """A heartbeat that has sent a Ping, and the stream from that side."""

    def __init__(self, *, client: bool) -> None:
        self.client = client
        self.heartbeat = Heartbeat(masked=not client)
        self.tracker = FrameTracker()
        self.payload = payload_of(self.heartbeat.ping(1.0), to_client=client)

    def frame(self, first: int, payload: bytes) -> bytes:
        return frame(first, payload, from_client=self.client)

    @property
    def pong(self) -> bytes:
        return self.frame(0x8A, self.payload)

    def passed(self, data: bytes) -> bytes:
        if self.heartbeat.awaits:
            return self.heartbeat.without_pong(data, self.tracker)
        self.tracker.feed(data)
        return data


@pytest.fixture(params=[True, False], ids=["client", "upstream"])
def side(request: pytest.FixtureRequest) -> Side:
    return Side(client=request.param)


def test_the_answer_is_taken_out_whatever_is_around_it(side: Side) -> None:
    before, after = side.frame(0x01, b"half a message"), side.frame(0x80, b"the other half")
    assert side.passed(before + side.pong + after) == before + after
    assert not side.heartbeat.awaits
    assert side.tracker.between_frames


def test_however_it_is_cut(side: Side) -> None:
    rng = random.Random(3)
    stranger = side.frame(0x8A, b"12345678")
    parts = [
        side.frame(0x82, bytes(100)),
        stranger,
        side.frame(0x89, b"are you there"),
        b"",
        side.frame(0x81, b"x" * 40),
    ]
    expected = b"".join(parts)
    parts[3] = side.pong
    raw = b"".join(parts)
    for _ in range(200):
        fresh = Side(client=side.client)
        data = raw.replace(side.pong, fresh.pong)
        got, at = b"", 0
        while at < len(data):
            step = rng.choice([1, 2, 3, 9, 13, 14, 60, 300])
            got += fresh.passed(data[at : at + step])
            at += step
        assert got == expected
        assert fresh.tracker.between_frames
        assert not fresh.heartbeat.awaits


def test_other_pongs_pass(side: Side) -> None:
    for payload in (b"", side.payload[:-1], side.payload + b"x", side.payload[::-1] + b"", b"12345678"):
        pong = side.frame(0x8A, payload)
        assert side.passed(pong) == pong
    assert side.heartbeat.awaits
    assert side.passed(side.pong) == b""


def test_only_the_first_answer_is_taken_out(side: Side) -> None:
    assert side.passed(side.pong + side.pong) == side.pong


def test_what_looks_like_the_answer_within_a_payload_passes(side: Side) -> None:
    disguised = side.frame(0x82, side.pong)
    assert side.passed(disguised) == disguised
    assert side.heartbeat.awaits


def test_an_answer_that_stays_unfinished_is_given_out_at_the_end(side: Side) -> None:
    assert side.passed(side.frame(0x81, b"x") + side.pong[:5]) == side.frame(0x81, b"x")
    assert side.heartbeat.held() == side.pong[:5]
    assert side.heartbeat.held() == b""


def test_a_flood_of_other_pongs_is_not_looked_at_one_by_one(side: Side) -> None:
    flood = side.frame(0x8A, b"12345678") * 20_000
    assert side.passed(flood) == flood
    assert not side.heartbeat.awaits
    assert side.tracker.between_frames


def test_a_later_ping_awaits_a_later_answer(side: Side) -> None:
    late = side.pong
    side.payload = payload_of(side.heartbeat.ping(2.0), to_client=side.client)
    assert side.passed(late) == late, "an answer that nobody expects is allowed"
    assert side.passed(side.pong) == b""


VERSION = b"Host: a\r\nSec-WebSocket-Version: 13\r\n"


@pytest.mark.parametrize(
    ("request_lines", "response_lines", "plain"),
    [
        (VERSION, b"", True),
        (VERSION.lower(), b"Sec-WebSocket-Accept: x\r\n", True),
        (VERSION, b"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=12\r\n", True),
        (VERSION, b"sec-websocket-extensions:permessage-deflate\r\nSec-WebSocket-Extensions: mux\r\n", False),
        (VERSION, b"Sec-WebSocket-Extensions: permessage-deflate, bbf-usp-protocol\r\n", False),
        (VERSION.replace(b"13", b"8"), b"", False),
        (VERSION.replace(b"13", b"13, 8"), b"", False),
        (b"Host: a\r\n", b"", False),
    ],
)
def test_what_control_frames_mean(request_lines: bytes, response_lines: bytes, plain: bool) -> None:
    assert has_plain_control_frames(request_lines, response_lines) is plain

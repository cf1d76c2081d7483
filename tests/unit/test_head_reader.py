"""What is read before a head, and what is kept after it."""

import pytest

from gateway.proxy.routes import plan
from gateway.syntax import hosts
from gateway.wire.message import request
from gateway.wire.message.head_reader import HeadReader, KeptHeads
from gateway.wire.message.known_heads import KnownHeads
from gateway.wire.message.request import Limits, RequestError
from tests.support.lines_run import lines_run

PEER = "192.0.2.1"


def reader(room: int = 100_000) -> tuple[HeadReader, KeptHeads]:
    kept = KeptHeads(room)
    return HeadReader(Limits(), kept), kept


def head(size: int, target: bytes = b"/") -> bytes:
    start = b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nX: "
    return start + b"x" * (size - len(start) - 4) + b"\r\n\r\n"


def test_empty_lines_are_counted_before_anything_is_done_about_them() -> None:
    reading, _ = reader()

    def feed() -> None:
        with pytest.raises(RequestError, match="empty lines"):
            reading.feed(b"\r\n" * 200_000)

    assert lines_run(feed) < 200


def test_a_few_empty_lines_are_skipped_however_they_come() -> None:
    whole = b"\r\n" * 4 + head(100)
    for cut in range(1, len(whole)):
        reading, _ = reader()
        assert reading.feed(whole[:cut]) is None
        assert reading.feed(whole[cut:]) == (head(100), 100)
    for cut in range(1, 10):
        reading, _ = reader()
        early = (b"\r\n" * 5)[:cut]
        assert reading.feed(early) is None
        with pytest.raises(RequestError, match="empty lines"):
            reading.feed((b"\r\n" * 5)[cut:])


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b"\x16\x03\x01\x02\x00", "a TLS handshake"),
        (b"\x00", "the first byte"),
        (b" GET / HTTP/1.1", "the first byte"),
        (b"\xef\xbb\xbfGET /", "the first byte"),
        (b"\rG", "the first byte"),
        (b"\r\n\x80", "the first byte"),
        (b"(", "the first byte"),
    ],
)
def test_what_can_begin_no_request_is_refused_with_its_first_byte(first: bytes, said: str) -> None:
    at_once, _ = reader()
    with pytest.raises(RequestError, match=said) as refused:
        at_once.feed(first)
    assert refused.value.status == 400
    dripped, _ = reader()
    with pytest.raises(RequestError, match=said):
        any(dripped.feed(first[at : at + 1]) for at in range(len(first)))


@pytest.mark.parametrize("first", [b"G", b"\r", b"\r\n", b"\r\nx", b"$", b"9", b"|~"])
def test_what_can_begin_a_request_is_waited_for(first: bytes) -> None:
    reading, _ = reader()
    assert reading.feed(first) is None


@pytest.mark.parametrize(
    "line", [b"SSH-2.0-a\r\n", b"*1\r\n$4\r\nPING\r\n", b"EHLO a\r\n", b"GET /\r\n", b"GET / HTTP/2.0\r\nHost: a\r\n"]
)
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_line_that_is_no_request_line_is_refused_when_it_is_complete(line: bytes, step: int) -> None:
    reading, _ = reader()
    with pytest.raises(RequestError) as refused:
        any(reading.feed(line[at : at + step]) for at in range(0, len(line), step))
    assert refused.value.status == 400


@pytest.mark.parametrize("step", [1, 3, 1000])
def test_a_good_request_line_is_waited_behind(step: int) -> None:
    reading, _ = reader()
    line = b"GET / HTTP/1.1\r\nHost: a\r\n"
    assert all(reading.feed(line[at : at + step]) is None for at in range(0, len(line), step))


def test_a_large_read_of_tiny_lines_is_refused_by_its_size() -> None:
    reading, _ = reader()

    def feed() -> None:
        with pytest.raises(RequestError) as refused:
            reading.feed(b"GET / HTTP/1.1\r\n" + b"a:b\r\n" * 50_000)
        assert refused.value.status == 431

    assert lines_run(feed) < 200


def test_a_small_head_is_kept_and_a_large_one_is_not() -> None:
    reading, kept = reader()
    small, large = head(300), head(5000)
    first = reading.parse(small, PEER)
    assert reading.again(small) is first
    assert kept.left == 100_000 - 300
    assert reading.parse(large, PEER).fields.lines
    assert reading.again(large) is None
    assert reading.again(small) is None
    assert kept.left == 100_000


def test_what_is_written_with_escapes_is_not_kept() -> None:
    reading, kept = reader()
    for target in (b"/\xc3\xa4", b"/\xff"):
        assert reading.parse(head(100, target), PEER).path == target
        assert kept.left == 100_000


def test_all_connections_share_the_room_and_give_it_back() -> None:
    kept = KeptHeads(1000)
    readers = [HeadReader(Limits(), kept) for _ in range(4)]
    for each in readers:
        each.parse(head(300), PEER)
    assert [each.again(head(300)) is not None for each in readers] == [True, True, True, False]
    assert kept.left == 100
    # A head in the place of another one of the same connection.
    readers[0].parse(head(400), PEER)
    assert readers[0].again(head(400)) is not None
    assert kept.left == 0
    for each in readers:
        each.forget()
        each.forget()
    assert kept.left == 1000


def test_a_head_that_has_come_twice_is_known_on_every_connection_of_its_peer() -> None:
    kept = KeptHeads()
    asked = [HeadReader(Limits(), kept).parse(head(300), PEER) for _ in range(4)]
    assert asked[0] is not asked[1]
    assert asked[1] is asked[2] is asked[3]
    assert HeadReader(Limits(), kept).parse(head(300), "192.0.2.2") is not asked[3]


def test_a_client_behind_a_proxy_finds_its_head_again_on_a_connection_that_others_use() -> None:
    reading, _ = reader()
    turns = [[reading.parse(head(300, b"/%d" % client), PEER) for client in range(10)] for _ in range(3)]
    assert [one is other for one, other in zip(turns[1], turns[2], strict=True)] == [True] * 10


def test_large_heads_and_those_with_escapes_are_not_known_to_other_connections() -> None:
    kept = KeptHeads()
    for again in (head(5000), head(100, b"/\xc3\xa4")):
        requests = [HeadReader(Limits(), kept).parse(again, PEER) for _ in range(4)]
        assert len({id(request) for request in requests}) == 4


def test_heads_that_nobody_asks_for_make_room_for_others() -> None:
    known = KnownHeads(room=40_000)
    request = HeadReader(Limits(), KeptHeads()).parse(head(300), PEER)
    for number in range(1000):
        for _ in range(2):
            known.note(PEER, b"%d" % number, request)
        assert known.find(PEER, b"0") is request
        assert len(known) <= 20
    assert known.find(PEER, b"500") is None
    assert known.find(PEER, b"999") is request


def test_marks_of_heads_that_came_once_are_taken_off_before_there_are_too_many() -> None:
    known = KnownHeads()
    request = HeadReader(Limits(), KeptHeads()).parse(head(300), PEER)
    for number in range(100_000):
        known.note(PEER, b"%d" % number, request)
    assert len(known) < 25_000


def test_no_table_keeps_what_is_too_long_to_be_a_host() -> None:
    tables = (hosts._authority, request._known_host_of, plan._port_of)
    before = [table.cache_info().currsize for table in tables]
    for number in range(20):
        reading, _ = reader()
        host = b"a" * 20_000 + b"%d" % number
        with pytest.raises(RequestError, match="Host"):
            reading.parse(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n", PEER)
    assert plan.port_of(b"a" * 20_000, "https") == b"443"
    after = [table.cache_info().currsize for table in tables]
    assert after[:2] == before[:2]
    # That one as a beginning of no more than the longest host.
    assert after[2] <= before[2] + 1

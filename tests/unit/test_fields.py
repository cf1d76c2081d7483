import pytest

from gateway.wire.message.fields import (
    FieldError,
    Fields,
    TooManyFieldsError,
    parse_request_fields,
    parse_response_fields,
)


def fields(*lines: bytes) -> Fields:
    return parse_request_fields(b"".join(line + b"\r\n" for line in lines) + b"\r\n", 100)


def test_end_to_end_lines_are_kept_as_they_are() -> None:
    made = fields(b"B:1", b"a: 2", b"b:   3", b"Empty:", b"Content-Length: 0")
    assert made.lines.split(b"\r\n") == [b"B: 1", b"a: 2", b"b: 3", b"Empty: ", b"Content-Length: 0", b""]


def test_hop_by_hop_fields_go() -> None:
    assert (
        fields(b"Keep-Alive: x", b"TE: trailers", b"Trailer: x", b"Proxy-Connection: x", b"Upgrade: h2c").lines == b""
    )


def test_connection_options() -> None:
    made = fields(b"Connection: X-A, close", b"x-a: 1", b"X-B: 2", b"CONNECTION: , Upgrade,", b"Via: 1.1 a")
    assert (made.close, made.keep_alive, made.upgrade_listed) == (True, False, True)
    assert made.lines == b"X-B: 2\r\nVia: 1.1 a\r\n"


@pytest.mark.parametrize(
    ("lines", "chunked", "coding"),
    [
        ([b"Transfer-Encoding: Chunked"], True, b"chunked"),
        ([b"Transfer-Encoding: gzip, chunked"], False, b"gzip, chunked"),
        ([b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked"], False, b"identity,chunked"),
    ],
)
def test_transfer_codings(lines: list[bytes], chunked: bool, coding: bytes) -> None:
    made = fields(*lines)
    assert (made.chunked, made.transfer_encoding) == (chunked, coding)


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: -1",
        b"Content-Length: +1",
        b"Content-Length: 0x1",
        b"Content-Length: 1, 1",
        b"Content-Length: 1_0",
        b"Content-Length:",
        b"Content-Length: 99999999999999999999",
        b"Content-Length: 1\r\nContent-Length: 1",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked",
        b"X: a\r\n b",
        b"X : a",
        b": a",
        b"X",
        b"X: \0",
        b"X: a\nY: b",
        b"X: a\rY: b",
    ],
)
def test_malformed_blocks(line: bytes) -> None:
    with pytest.raises(FieldError):
        fields(line)
    assert fields(b"X: good").lines == b"X: good\r\n", "the tokenizer has not recovered"


@pytest.mark.parametrize("line", [b"Content-Length: 5", b"Connection: close", b"Upgrade: x\r\nConnection: upgrade"])
def test_one_block_does_not_colour_the_next(line: bytes) -> None:
    fields(line)
    after = fields(b"A: b")
    assert (after.length, after.close, after.upgrade, after.lines) == (None, False, None, b"A: b\r\n")


def test_count() -> None:
    block = b"A: b\r\n" * 5 + b"\r\n"
    assert parse_request_fields(block, 5).lines == b"A: b\r\n" * 5
    with pytest.raises(TooManyFieldsError):
        parse_request_fields(block, 4)


@pytest.mark.parametrize("value", [b'"', b"\\", b"a b", b"\xe4", b"x" * 129, b""])
def test_unsafe_ids_are_ignored(value: bytes) -> None:
    made = fields(b"X-Request-ID: " + value, b"X-Correlation-ID: " + value)
    assert (made.request_id, made.correlation_id) == (None, None)


@pytest.mark.parametrize(
    ("value", "good"),
    [
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (b"00-00000000000000000000000000000000-00f067aa0ba902b7-01", False),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01", False),
        (b"ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", False),
        (b"00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01", False),
        (b"nonsense", False),
        # Version 00 ends with the flags; only a later one may have more behind them.
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-", False),
        (b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", False),
        (b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", True),
        (b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what", True),
        (b"cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what", False),
    ],
)
def test_traceparent(value: bytes, good: bool) -> None:
    assert fields(b"traceparent: " + value).traceparent == (value if good else None)


@pytest.mark.parametrize("number", [2, 3])
def test_of_several_traceparents_none_is_the_clients(number: int) -> None:
    line = b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert fields(*[line] * number).traceparent is None
    assert fields(b"traceparent: nonsense", line).traceparent is None


def test_a_response_keeps_what_a_request_loses() -> None:
    made = parse_response_fields(b"Host: x\r\nExpect: y\r\nRetry-After: 3\r\nVia: 1.1 z\r\n\r\n", 100)
    assert made.lines == b"Host: x\r\nExpect: y\r\nRetry-After: 3\r\nVia: 1.1 z\r\n"
    assert made.retry_after == b"3"


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        (b"X_Forwarded_For", False),
        (b"x-forwarded_for", False),
        (b"X.Request.ID", False),
        (b"Content_Length", False),
        (b"Idempotency_Key", False),
        (b"X_Forwarded_User", False),
        (b"Max_Forwards", False),
        (b"Proxy", False),
        (b"My_Field", True),
        (b"X_Forwarded", False),
        (b"X_Forward", True),
        (b"X-Request", True),
    ],
)
def test_twins_of_what_has_a_meaning_are_dropped(name: bytes, kept: bool) -> None:
    for _ in range(2):  # learned, then known
        fields = parse_request_fields(b"%b: 1\r\n\r\n" % name, 100)
        assert fields.lines == (b"%b: 1\r\n" % name if kept else b"")
        assert fields.forwarded == []
        assert fields.length is None
    assert parse_response_fields(b"%b: 1\r\n\r\n" % name, 100).lines == b"%b: 1\r\n" % name


def test_more_spellings_than_are_remembered_mean_the_same() -> None:
    for number in range(3000):
        parse_request_fields(b"X-%d: 1\r\n\r\n" % number, 100)
    assert parse_request_fields(b"x-FORWARDED-for: 1\r\n\r\n", 100).forwarded == [(b"x-FORWARDED-for", b"1")]
    assert parse_request_fields(b"X_fORWARDED-for: 1\r\n\r\n", 100).lines == b""


def test_without_underscores_no_name_has_one() -> None:
    block = b"My_Field: 1\r\nMy-Field: 2\r\n\r\n"
    assert parse_request_fields(block, 100, underscores=False).lines == b"My-Field: 2\r\n"

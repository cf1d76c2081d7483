import pytest

from gateway.wire.message.chunked import LAST_CHUNK, ChunkedDecoder, ChunkedError, encode_chunk
from tests.support.lines_run import lines_run


def decode(body: bytes) -> tuple[bytes, bytes, ChunkedDecoder]:
    decoder = ChunkedDecoder()
    payload, rest = decoder.feed(body)
    return payload, rest, decoder


@pytest.mark.parametrize(
    ("body", "payload"),
    [
        (b"0\r\n\r\n", b""),
        (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world"),
        (b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"a\r\n0123456789\r\n0\r\n\r\n", b"0123456789"),
        (b"0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", b"hello"),
        (b"7\r\n0\r\n\r\n0\r\r\n0\r\n\r\n", b"0\r\n\r\n0\r"),
        (b"5;name\r\nhello\r\n0;last\r\n\r\n", b"hello"),
        (b"5;a=1;b=two;c\r\nhello\r\n0\r\n\r\n", b"hello"),
        (b'5;a="q; \\" \\\\ =\xe9\t"\r\nhello\r\n0\r\n\r\n', b"hello"),
        (b"5 \t; a = b ;c\r\nhello\r\n0\r\n\r\n", b"hello"),
    ],
)
def test_valid_bodies_end_exactly_at_their_end(body: bytes, payload: bytes) -> None:
    for rest in (b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"0\r\n\r\n"):
        decoded, left, decoder = decode(body + rest)
        assert (decoded, left, decoder.done) == (payload, rest, True)


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n",
        b"\n",
        b" 5\r\n",
        b"5 \r\n",
        b"5\t\r\n",
        b"+5\r\n",
        b"-5\r\n",
        b"-0\r\n",
        b"0x5\r\n",
        b"0X5\r\n",
        b"1_0\r\n",
        b"5h\r\n",
        b"g\r\n",
        b"\xef\xbc\x95\r\n",
        b"00000000000000005\r\n",
        b"10000000000000000\r\n",
        b"5\n",
        b"5\rhello",
        b"5\r\r\n",
        b"5;\r\n",
        b"5;=a\r\n",
        b"5;a=\r\n",
        b"5;a b\r\n",
        b"5;a;\r\n",
        b'5;a="b\r\n',
        b'5;a="b\r\n"\r\n',
        b'5;a="b\n"\r\n',
        b'5;a="b"c\r\n',
        b"5;a=\x00\r\n",
        b"5;a\x7f\r\n",
        b"5;a\n",
        b"5 a\r\n",
        b"5,a\r\n",
        b"5\r\nhelloX",
        b"5\r\nhello\n",
        b"5\r\nhello\rX",
        b"5\r\nhello0\r\n",
        b"5\r\nhello \r\n",
        b"0\r\n\n",
        b"0\n\r\n",
        b"0\r\nX",
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    if body == b"0\r\nX":  # the only one that is not wrong yet: a trailer may begin so
        body += b"\n"
    decoder = ChunkedDecoder()
    with pytest.raises(ChunkedError):
        decoder.feed(body)
    assert not decoder.done
    with pytest.raises(ChunkedError, match="already"):
        decoder.feed(b"0\r\n\r\n")


@pytest.mark.parametrize(
    "body", [b"5\n", b"x", b"5;a\x00", b"5 x", b"12345678901234567", b"0\r\n :", b"0\r\na b", b"5\r\nhello\r0"]
)
def test_a_line_is_refused_without_waiting_for_its_end(body: bytes) -> None:
    with pytest.raises(ChunkedError):
        decode(body)


def test_trailers_are_dropped() -> None:
    payload, rest, decoder = decode(b"1\r\nx\r\n0\r\nA: 1\r\nb:\t two  \r\nA:\r\nC:\xe9\r\n\r\nrest")
    assert (payload, rest, decoder.done) == (b"x", b"rest", True)


@pytest.mark.parametrize(
    "line",
    [
        b"A : b\r\n",
        b" A: b\r\n",
        b"A: b\r\n c\r\n",
        b"A: b\r\n\tc\r\n",
        b"A\r\n",
        b": b\r\n",
        b"A: b\n",
        b"A: b\rc\r\n",
        b"A: b\x00\r\n",
        b"A: b\x7f\r\n",
        b"A(: b\r\n",
        b"\xe9: b\r\n",
    ],
)
def test_invalid_trailers_are_refused(line: bytes) -> None:
    with pytest.raises(ChunkedError, match="invalid trailer"):
        decode(b"0\r\n" + line + b"\r\n")


def test_trailers_are_bounded_in_bytes_and_number() -> None:
    assert ChunkedDecoder(max_trailer_bytes=8).feed(b"0\r\na: 1\r\nb: 2\r\n\r\n") == (b"", b"")
    with pytest.raises(ChunkedError, match="too large"):
        ChunkedDecoder(max_trailer_bytes=7).feed(b"0\r\na: 1\r\nb: 2\r\n\r\n")
    with pytest.raises(ChunkedError, match="too large"):
        ChunkedDecoder(max_trailer_bytes=7).feed(b"0\r\na: 123456")
    ChunkedDecoder(max_trailer_count=2).feed(b"0\r\na:\r\nb:\r\n\r\n")
    with pytest.raises(ChunkedError, match="too large"):
        ChunkedDecoder(max_trailer_count=1).feed(b"0\r\na:\r\nb:\r\n\r\n")


def test_extensions_are_bounded_over_the_whole_body() -> None:
    chunk = b"1;ext=abc\r\nx\r\n"  # 8 bytes of extension
    assert ChunkedDecoder(max_extension_bytes=16).feed(chunk * 2 + LAST_CHUNK) == (b"xx", b"")
    with pytest.raises(ChunkedError, match="extensions too large"):
        ChunkedDecoder(max_extension_bytes=16).feed(chunk * 3)
    with pytest.raises(ChunkedError, match="extensions too large"):
        ChunkedDecoder(max_extension_bytes=16).feed(b"1;" + b"x" * 16)
    # A CR that may be the line's end is not counted, whether or not its LF has come.
    decoder = ChunkedDecoder(max_extension_bytes=16)
    decoder.feed(chunk * 1 + b"1;ext=abc\r")
    assert decoder.feed(b"\nx") == (b"x", b"")


def test_the_largest_size_is_understood_and_not_reserved_for() -> None:
    decoder = ChunkedDecoder()
    assert decoder.feed(b"ffffffffffffffff\r\nabc") == (b"abc", b"")
    assert not decoder.done
    assert repr(decoder) == f"<ChunkedDecoder payload, remaining={2**64 - 4}>"


def test_a_payload_that_is_all_of_the_data_is_not_copied() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"100000\r\n")
    block = b"x" * 65_536
    assert decoder.feed(block)[0] is block


def test_after_the_end_everything_is_rest() -> None:
    _, _, decoder = decode(LAST_CHUNK)
    assert decoder.feed(b"HTTP/1.1 200") == (b"", b"HTTP/1.1 200")
    assert decoder.feed(b"") == (b"", b"")


def test_encode_chunk() -> None:
    assert encode_chunk(b"x" * 26) == b"1a\r\n" + b"x" * 26 + b"\r\n"
    assert encode_chunk(b"") == b"", "an empty chunk would end the body"


# One read of the event loop at its largest.
_READ = 256_000


@pytest.mark.parametrize(
    "chunk",
    [
        b"1\r\na\r\n",
        b"0000000000000001\r\na\r\n",
        b"2\r\n\r\n\r\n",
        b"F\r\n0123456789\r\n12\r\r\n",
        b"1\r\n1\r\n2\r\n0\r\r\n",
    ],
    ids=["one byte", "leading zeros", "CRLF as payload", "fifteen bytes", "two sizes, chunk-like payloads"],
)
def test_a_read_full_of_tiny_chunks_is_little_work(chunk: bytes) -> None:
    times = _READ // len(chunk)
    whole = ChunkedDecoder()
    payload, rest = b"", b""

    def feed() -> None:
        nonlocal payload, rest
        payload, rest = whole.feed(chunk * times + LAST_CHUNK)

    assert lines_run(feed) < 200
    piecemeal = ChunkedDecoder()
    one_by_one = b"".join(piecemeal.feed(bytes([byte]))[0] for byte in chunk)
    assert (payload, rest, whole.done) == (one_by_one * times, b"", True)


def test_a_run_of_tiny_chunks_ends_where_the_grammar_breaks() -> None:
    for broken in (b"1\r\nab\r\n", b"1\nb\r\n", b"g\r\nb\r\n", b"00000000000000001\r\na\r\n", b"\r\n1\r\na\r\n"):
        with pytest.raises(ChunkedError):
            ChunkedDecoder().feed(b"1\r\na\r\n" * 50 + broken + b"1\r\na\r\n" * 50)


def test_an_endless_line_is_refused_before_its_grammar_is_tried() -> None:
    # Neither matches the grammar: it would be called invalid had it been tried.
    with pytest.raises(ChunkedError, match="extensions too large"):
        ChunkedDecoder().feed(b"5" + b";a" * 100_000 + b"=\r\n")
    with pytest.raises(ChunkedError, match="trailers too large"):
        ChunkedDecoder().feed(b"0\r\n" + b"a" * 100_000 + b"\r\n\r\n")

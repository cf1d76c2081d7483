"""`Idempotency-Key`: which values are keys, which of them are the same, and whose records they find."""

import pytest

from gateway.idempotency.keys import content_hash, parse_key, record_key


@pytest.mark.parametrize(
    ("field", "key"),
    [
        (b"a", b"a"),
        (b'"a"', b"a"),
        (b" \tk-1.2~3 ", b"k-1.2~3"),
        (b'"with \\"quotes\\" "', None),
        (b'"with\\"quotes\\\\"', b'with"quotes\\'),
        (b"8e03978e-40d5-43dd-bc93-6894a57f9324", b"8e03978e-40d5-43dd-bc93-6894a57f9324"),
        (b"x" * 255, b"x" * 255),
        (b'"' + b"x" * 255 + b'"', b"x" * 255),
        (b"a,b", None),
        (b",", None),
        (b"a;p=1", None),
        (b'a"b', None),
        (b"a:b/c+d==", b"a:b/c+d=="),
        (b'"a,b;c"', b"a,b;c"),
        (b"", None),
        (b'""', None),
        (b'"', None),
        (b'"a', None),
        (b'"a"b', None),
        (b'"a";p=1', None),
        (b"a b", None),
        (b'"a b"', None),
        (b"x" * 256, None),
        (b"\xc3\xa4", None),
        (b'"\\a"', None),
        (b"a\x7f", None),
    ],
)
def test_a_key_is_1_to_255_visible_characters_quoted_or_bare(field: bytes, key: bytes | None) -> None:
    assert parse_key(field) == key


def test_records_are_told_apart_by_route_and_by_whose_they_are() -> None:
    asked = [
        ("orders", "address", "192.0.2.1", b"k"),
        ("carts", "address", "192.0.2.1", b"k"),
        ("orders", "consumer", "192.0.2.1", b"k"),
        ("orders", "address", "192.0.2.10", b"k"),
        ("orders", "address", "192.0.2.1", b"0k"),
        ("orders", "address", "192.0.2.1", b"K"),
    ]
    found = [record_key(*each) for each in asked]
    assert len(set(found)) == len(asked)
    assert {len(each) for each in found} == {32}
    assert not any(each[:1] == b"k" and b"192" in each for each in found)


def test_requests_are_told_apart_by_method_host_target_type_and_body() -> None:
    def digest(method: str, target: bytes, content_type: bytes, *pieces: bytes, host: bytes = b"a.test") -> bytes:
        made = content_hash(method, host, target, content_type)
        for piece in pieces:
            made.update(piece)
        return made.digest()

    same = digest("POST", b"/a?b", b"text/plain", b"ab", b"c")
    assert digest("POST", b"/a?b", b"text/plain", b"abc") == same
    others = [
        digest("PATCH", b"/a?b", b"text/plain", b"abc"),
        digest("POST", b"/a?c", b"text/plain", b"abc"),
        digest("POST", b"/a?b", b"text/html", b"abc"),
        digest("POST", b"/a?b", b"text/plain", b"abd"),
        digest("POST", b"/a?b", b"", b"text/plain\0abc"),
        digest("POST", b"/a?b", b"text/plain", b"abc", host=b"b.test"),
    ]
    assert same not in others

"""Bodies as JSON: what not everybody reads alike is no JSON here."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.validation.faults import Malformed
from gateway.validation.json_body import MOST_DEPTH, parse

REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "empty"),
    "spaces": (b" \r\n", "empty"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "byte order mark"),
    "UTF-16": ('{"a":1}'.encode("utf-16"), "not UTF-8: byte 0"),
    "half a character": (b'"\xe2\x82"', "not UTF-8: byte 1"),
    "an encoded surrogate": (b'"\xed\xa0\x80"', "not UTF-8"),
    "a lone surrogate": (b'"\\ud800"', "line 1, column 2"),
    "NaN": (b'{"a": NaN}', "line 1, column 7"),
    "Infinity": (b"[-Infinity]", "not JSON"),
    "more than a double": (b"[1e400]", "a number that is too large"),
    "400 digits": (b"1" * 400, "a number that is too large"),
    "a leading zero": (b"[01]", "not JSON"),
    "a plus": (b"[+1]", "not JSON"),
    "a comma too much": (b'{"a": 1,}', "not JSON"),
    "a comment": (b"[1] // one", "not JSON"),
    "quotes of Python": (b"{'a': 1}", "not JSON"),
    "a control character": (b'"a\nb"', "not JSON"),
    "two values": (b"{}{}", "not JSON"),
    "a NUL": (b"{}\x00", "not JSON"),
    "one member twice": (b'{"a": 1, "a": 1}', "two members"),
    "an empty name twice": (b'{"": 1, "": 2}', "two members"),
    "one member twice, one escaped": (b'{"a": 1, "\\u0061": 2}', "two members"),
    "one member twice, deep": (b'[[{"x": [{"a": {}, "a": {}}]}]]', "two members"),
    "one member twice, and an escaped colon for the lost one": (b'{"a": 1, "a": 2, "b": "\\u003a"}', "two members"),
    "the same with a capital": (b'{"a": 1, "a": "\\u003A"}', "two members"),
    "65 arrays": (b"[" * 65 + b"]" * 65, "64 levels"),
    "65 objects": (b'{"a":' * 65 + b"1" + b"}" * 65, "64 levels"),
    "65 levels between shallow ones": (b"[[]," + b"[" * 64 + b"]" * 64 + b"," + b"[]," * 90 + b"[]]", "64 levels"),
    "100,000 arrays": (b"[" * 100_000 + b"]" * 100_000, "64 levels"),
    "100,000 arrays that do not end": (b"[" * 100_000, "64 levels"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_parsers_do_not_agree_about_is_refused(case: str) -> None:
    raw, words = REFUSED[case]
    with pytest.raises(Malformed, match=words):
        parse(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a": {"a": 1}, "b": [{"a": 1}, {"a": 2}]}',
        b'{"time": "12:30", "url": "https://a.example:80/:::"}',
        b'{"a": "\\u003a", "b\\u003ac": ":"}',
        b" [1, 2.5, -0, 1E5, true, null] ",
        b"[" * MOST_DEPTH + b"]" * MOST_DEPTH,
        b'{"a":' * MOST_DEPTH + b"1" + b"}" * MOST_DEPTH,
        b"[" + b"[],{}," * 1000 + b"1]",
        '"\u2028 \U0001f600 \\ud83d\\ude00"'.encode(),
    ],
)
def test_what_everybody_reads_alike_is_what_json_says(raw: bytes) -> None:
    assert parse(raw) == json.loads(raw)


def test_a_number_beyond_64_bits_is_its_magnitude() -> None:
    assert parse(b"[18446744073709551616]") == [2.0**64]


def test_no_reason_holds_anything_of_the_body() -> None:
    for raw, _ in REFUSED.values():
        secret = raw + b"hunter2"
        with pytest.raises(Malformed) as found:
            parse(secret)
        assert "hunter2" not in str(found.value)


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES, st.booleans())
def test_whatever_json_writes_is_read(value: Any, ascii_only: bool) -> None:
    assert parse(json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")) == value


MEMBERS = st.lists(st.tuples(st.sampled_from(["a", "b", ":", "a:"]), st.sampled_from([1, ":", "::", "x"])), max_size=5)


@given(MEMBERS, st.booleans())
def test_a_member_twice_is_found_whatever_colons_there_are(members: list[tuple[str, Any]], escaped: bool) -> None:
    def written(value: Any) -> str:
        text = json.dumps(value)
        return text.replace(":", "\\u003a") if escaped else text

    raw = ("{" + ",".join(f"{written(name)}:{written(value)}" for name, value in members) + "}").encode()
    if len({name for name, _ in members}) == len(members):
        assert parse(raw) == dict(members)
    else:
        with pytest.raises(Malformed):
            parse(raw)

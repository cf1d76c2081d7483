"""JSON of tokens and key sets: one meaning for each text, or none."""

from typing import Any

import pytest

from gateway.jose.strict_json import parse_object


@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1,"\\u0061":2}',
        b'{"b":{"a":1,"a":2}}',
        b'{"b":[{"a":1,"a":2}]}',
        # Colons within texts, escaped or not, hide no member.
        b'{"a":"\\u003a","a":"x"}',
        b'{"a":"\\u003A","a":":"}',
        b'{"a":"::","a":":"}',
        b'{":":1,":":1}',
        # What the quick comparison cannot write again is looked at closely.
        b'{"a":123456789012345678901234567890,"b":1,"b":1}',
        b'{"a":"\\ud800","b":1,"b":1}',
        b'{"a":%b,"b":1,"b":1}' % (b"[" * 300 + b"]" * 300),
    ],
)
def test_a_member_twice_is_found_wherever_it_is(text: bytes) -> None:
    with pytest.raises(ValueError, match="twice"):
        parse_object(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (b"{}", {}),
        (b' {"a" : ":" }\n', {"a": ":"}),
        (b'{"a":"\\u003a"}', {"a": ":"}),
        (b'{":":{":":[":"]}}', {":": {":": [":"]}}),
        (b'{"a":123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        (b'{"a":"\\ud83d\\ude00","b":"\xc3\xa9"}', {"a": "\U0001f600", "b": "\xe9"}),
        (b'{"a":1.5,"b":1e3,"c":-0}', {"a": 1.5, "b": 1000.0, "c": 0}),
    ],
)
def test_a_text_with_one_meaning_is_read_exactly(text: bytes, value: dict[str, Any]) -> None:
    assert parse_object(text) == value


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b'"a"', b"null", b'{"a":NaN}', b'{"a":-Infinity}', b'{"a":1}x', b'{"a":"\xff"}', b"[" * 100_000],
)
def test_anything_else_is_no_object(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_object(text)

"""Quoted strings, and field values that are made to cost: whoever sends one chooses what is in it."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.syntax import quotes
from tests.support.waiting import PATIENCE

VALUES = st.lists(st.sampled_from([b'"', b"\\", b"a", b",", b";", b" ", b"\xff", b"\n"])).map(b"".join)


@pytest.mark.parametrize(
    ("value", "is_open"),
    [
        (b"", False),
        (b"a", False),
        (b'""', False),
        (b'"', True),
        (b'a="b" c="d"', False),
        (b'a="b" c="d', True),
        (b'a="b\\"', True),
        (b'a="b\\""', False),
        (b'a="b\\\\"', False),
        (b'a="b\\', True),
        (b'\\"', True),
    ],
)
def test_whether_a_quote_is_left_open(value: bytes, is_open: bool) -> None:
    assert quotes.left_open(value) == is_open


@given(VALUES)
def test_strings_are_those_that_a_reader_by_bytes_finds(value: bytes) -> None:
    strings: list[bytes] = []
    is_open = False
    at = value.find(b'"')
    while at >= 0:
        end = at + 1
        while end < len(value) and value[end] != 0x22:
            end += 2 if value[end] == 0x5C else 1
        strings.append(value[at : end + 1])
        is_open = end >= len(value)
        at = value.find(b'"', end + 1)
    assert quotes.left_open(value) == is_open
    if not is_open:
        found: list[bytes] = []

        def keep(string: bytes) -> bytes:
            found.append(string)
            return string

        assert quotes.inside(value, keep) == value
        assert found == strings


# A megabyte each. What looks at each byte more than a few times does not end.
COSTLY = {
    "open quotes in Forwarded": """
from gateway.proxy.requests.identity import _each_for
list(_each_for(b'for=' + b'\\\\"' * 500_000))
list(_each_for(b'for="' + b'\\\\"' * 500_000 + b'\\\\'))
""",
    "blanks within Content-Type": """
from gateway.proxy.gates.idempotency import _CONTENT_TYPE
assert _CONTENT_TYPE.search(b'content-type: a' + b' ' * 1_000_000 + b'b\\r\\n')[1].strip().endswith(b'b')
""",
    "blanks within a field that Vary names": """
from gateway.proxy.destinations.last_good import _value
assert _value(b'x: a' + b' ' * 1_000_000 + b'b\\r\\n', b'x').endswith(b' b')
""",
    "open quotes in Cache-Control": """
from gateway.proxy.destinations.last_good import _SAYS, _directives
_directives(b'cache-control: ' + b'a="\\\\",' * 200_000 + b'\\r\\n', _SAYS)
""",
    "beginnings of tokens": """
from gateway.identity.masking import masked
assert masked(b'/?' + b'eyJ' * 300_000).endswith(b'eyJ')
""",
}


@pytest.mark.parametrize("code", COSTLY.values(), ids=COSTLY.keys())
def test_a_value_that_is_made_to_cost_is_read_in_one_pass(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, timeout=PATIENCE)

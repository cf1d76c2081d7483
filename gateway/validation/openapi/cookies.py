"""Cookies as parameters: `Cookie: a=1; b=2` (RFC 6265 section 4.2.1).

Upstreams do not agree about cookies: some take quotes off and decode `%31`, and PHP reads `a[x]` and `%61` as `a`. So a
name that some of them take for the parameter must not be there, and of a value with a `%` both readings must be good.
"""

import re
from typing import Final
from urllib.parse import unquote, unquote_to_bytes

from gateway.validation.faults import Malformed

_FIELDS: Final = re.compile(rb"^cookie[ \t]*:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)


def cookie_in(lines: bytes, name: bytes) -> tuple[str, ...]:
    """What upstreams may read as the cookie of this name: nothing, or one or two texts. Raises `Malformed`."""
    found: bytes | None = None
    for field in _FIELDS.findall(lines):
        for pair in field.split(b";"):
            written, _, value = pair.partition(b"=")
            written = written.strip(b" \t")
            if written == name:
                if found is not None:
                    raise Malformed("is there more than once")
                found = value.strip(b" \t")
            elif unquote_to_bytes(written).partition(b"[")[0] == name:
                raise Malformed("is there in another spelling of its name")
    if found is None:
        return ()
    if b'"' in found:
        raise Malformed("is written with quotes")
    text = found.decode("latin-1")
    decoded = unquote(text, encoding="latin-1")
    return (text,) if decoded == text else (text, decoded)

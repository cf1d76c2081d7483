"""Keys, as they come in `Idempotency-Key`, and what they are looked up by.

The draft has a quoted string (RFC 8941 section 3.3.3), and many clients send a bare word; both mean the same key. A key
has 1 to 255 visible characters of ASCII, a bare one none of `"`, `,` and `;`. It is kept nowhere: records are found by
the SHA-256 of route, client or tenant, and key.
"""

import hashlib
import re
from typing import Final

_QUOTED: Final = re.compile(rb'"((?:[\x21\x23-\x5b\x5d-\x7e]|\\["\\])+)"')
# Without what separates things in structured fields: a comma is between two keys, a semicolon before a parameter, and
# a quotation mark belongs to a string that is broken.
_BARE: Final = re.compile(rb"[\x21\x23-\x2b\x2d-\x3a\x3c-\x7e]+")
_ESCAPE: Final = re.compile(rb'\\(["\\])')
_LONGEST: Final = 255


def parse_key(field: bytes) -> bytes | None:
    """The key of a field's value; None when it is none. Two fields are joined with a comma before, or empty, and are
    not a key either way."""
    value = field.strip(b" \t")
    quoted = _QUOTED.fullmatch(value)
    if quoted is not None:
        key = _ESCAPE.sub(rb"\1", quoted[1])
    elif _BARE.fullmatch(value) is not None:
        key = value
    else:
        return None
    return key if len(key) <= _LONGEST else None


def record_key(route: str, scope: str, name: str, key: bytes) -> bytes:
    """What the record of a key is found by. `scope` says what `name` is: a client, a consumer, a tenant. No part holds
    a NUL, so different parts never make the same text."""
    return hashlib.sha256(b"\0".join((route.encode(), scope.encode(), name.encode(), key))).digest()


def content_hash(method: str, host: bytes, target: bytes, content_type: bytes) -> "hashlib._Hash":
    """The SHA-256 of what a request asks for, to which its body is yet to be added. `host` is empty
    where the upstream gets its own in any case."""
    return hashlib.sha256(b"%b\0%b\0%b\0%b\0" % (method.encode(), host, target, content_type))

"""A signed token in its compact form, `header.payload.signature`: what it says, before anybody has checked it.

The form is taken strictly: base64url without padding and with nothing in unused bits, so that a token has one spelling.
Of the header only `alg`, `kid` and `typ` are read. `jku`, `x5u`, `jwk` and `x5c`, by which a token would bring its own
key, are never looked at (RFC 8725 section 3.10). `crit` names extensions that must be understood; none is.
"""

import binascii
import re
from functools import lru_cache
from typing import Any, Final, NamedTuple

from gateway.jose.strict_json import parse_object

MALFORMED: Final = "malformed"
ENCRYPTED: Final = "encrypted"
CRITICAL: Final = "critical"
"""Why a text is not taken as a token; see `parse`."""

_SIGNED: Final = re.compile(rb"([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]*)\.([A-Za-z0-9_-]*)")
_ENCRYPTED: Final = re.compile(rb"[A-Za-z0-9_-]*(?:\.[A-Za-z0-9_-]*){4}")
# The last character of a part by how many there are beyond fours: its unused bits are zeros. No part has one beyond.
_LAST: Final = (None, b"", b"AQgw", b"AEIMQUYcgkosw048")
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
_LONGEST_KID: Final = 256
# So many headers of so many characters are kept, as they were read.
_MOST_KEPT: Final = 256
_LONGEST_KEPT: Final = 512


class Token(NamedTuple):
    """What a token says of itself. `signed` is what `signature` is about. `kid` None: it names no key."""

    algorithm: str
    kid: str | None
    type: str
    claims: dict[str, Any]
    signed: bytes
    signature: bytes


class _Header(NamedTuple):
    """What is read of a header."""

    algorithm: str
    kid: str | None
    type: str


def parse(written: bytes) -> Token | str:
    """The token, or a word for what is wrong: `MALFORMED`, `ENCRYPTED` (five parts, or another token within), or
    `CRITICAL` (it has an extension that must be understood)."""
    parts = _SIGNED.fullmatch(written)
    if parts is None:
        return ENCRYPTED if _ENCRYPTED.fullmatch(written) else MALFORMED
    try:
        header = _header(parts[1]) if parts.end(1) <= _LONGEST_KEPT else _read_header(parts[1])
        if isinstance(header, str):
            return header
        claims = parse_object(_decoded(parts[2]))
        signature = _decoded(parts[3])
    except ValueError:
        return MALFORMED
    end = parts.end(2)
    return Token(header.algorithm, header.kid, header.type, claims, written[:end], signature)


def _read_header(part: bytes) -> _Header | str:
    """What the header says, or a word as from `parse`. Raises `ValueError` where it is malformed."""
    header = parse_object(_decoded(part))
    if "crit" in header or "b64" in header:
        # `b64` changes what is signed, and may only come with `crit` (RFC 7797 section 6).
        return CRITICAL
    kind = _text(header, "typ")
    if "enc" in header or "zip" in header or kind_of(_text(header, "cty")) == "jwt":
        return ENCRYPTED
    kid = header.get("kid")
    if kid is not None and not (isinstance(kid, str) and len(kid) <= _LONGEST_KID):
        return MALFORMED
    return _Header(_text(header, "alg"), kid, kind)


_header: Final = lru_cache(maxsize=_MOST_KEPT)(_read_header)
"""Tokens of one key have the same header, so the latest ones are kept."""


def kind_of(media_type: str) -> str:
    """A `typ` or `cty` as types are compared: without case, and `application/` may be left out (RFC 7515 section
    4.1.9)."""
    return media_type.lower().removeprefix("application/")


def _text(header: dict[str, Any], name: str) -> str:
    """A text of the header, empty where it is not there."""
    value = header.get(name, "")
    if not isinstance(value, str):
        # It is caught above with all that is malformed.
        raise ValueError(f"{name} is no text")  # noqa: TRY004
    return value


def _decoded(part: bytes) -> bytes:
    """Raises `ValueError` for another spelling of the same octets."""
    last = _LAST[len(part) % 4]
    if last is not None and part[-1] not in last:
        raise ValueError("it is not base64url without padding")
    return binascii.a2b_base64(part.translate(_STANDARD) + b"=" * (-len(part) % 4))

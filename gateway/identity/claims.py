"""What claims of a token mean: times, names, scopes, and what an upstream is told of them.

A claim is named by its name, or by a JSON pointer (RFC 6901) where it is within another one:

    sub                          https://login.example/tenant                   /realm_access/roles

Claims are somebody else's text. What goes into a header line is visible ASCII: whatever else is in a value is written
as `%` and two hexadecimal digits for each byte of its UTF-8, and so is `%`, so two values never look alike.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

LONGEST_CONSUMER: Final = 255
_LONGEST_FIELD: Final = 4096
_LATEST: Final = 253_402_300_799
"""The last second of the year 9999. Whatever is later is no time but a trick."""
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


def _spelling(without: str) -> tuple[str, ...]:
    """How each of the 256 octets is written where all visible ASCII and the blank stay but for `without`."""
    return tuple(
        [chr(each) if 0x20 <= each < 0x7F and chr(each) not in without else f"%{each:02X}" for each in range(256)]
    )


# Braces would be hash tags of Redis Cluster in the key of the consumer's bucket.
_AS_CONSUMER: Final = _spelling("% {}")
_AS_VALUE: Final = _spelling("%")
_AS_ITEM: Final = _spelling("%,")


class UnusableClaimError(Exception):
    """A claim is not there, or has no value that can be used. It says nothing more, so that nobody quotes it."""


class Times(NamedTuple):
    """When a token begins (`nbf` and `iat`, the later one; 0 without them) and `expires`, in seconds of the epoch."""

    begins: float
    expires: float


def times_of(claims: dict[str, Any]) -> Times | None:
    """The times of a token, None where `exp` is missing or one of them is no time."""
    expires = _time(claims.get("exp"))
    not_before = _time(claims["nbf"]) if "nbf" in claims else 0.0
    issued = _time(claims["iat"]) if "iat" in claims else 0.0
    if expires is None or not_before is None or issued is None:
        return None
    return Times(max(not_before, issued), expires)


def found(claims: dict[str, Any], claim: str) -> object:
    """The value of a claim, None where it is not there."""
    if not claim.startswith("/"):
        return claims.get(claim)
    value: object = claims
    for step in claim[1:].split("/"):
        if not isinstance(value, dict):
            return None
        value = value.get(step.replace("~1", "/").replace("~0", "~"))
    return value


def text_of(claims: dict[str, Any], claim: str) -> str:
    """A claim that says which program or person asks, as header lines and logs have it. Raises
    `UnusableClaimError`."""
    text = _written(_identifier(claims, claim), _AS_CONSUMER)
    if not text or len(text) > LONGEST_CONSUMER:
        raise UnusableClaimError
    return text


def name_of(claims: dict[str, Any], claim: str) -> str:
    """A claim that says whose tenant asks; it has the form of a tenant's name. Raises `UnusableClaimError`."""
    text = _identifier(claims, claim)
    if _NAME.fullmatch(text) is None:
        raise UnusableClaimError
    return text


def scopes_of(claims: dict[str, Any], claim: str) -> frozenset[str]:
    """The scopes of a claim that has them in one text with blanks (RFC 8693 section 4.2) or in a list."""
    value = found(claims, claim)
    if isinstance(value, str):
        return frozenset(value.split(" "))
    return frozenset(each for each in value if isinstance(each, str)) if isinstance(value, list) else frozenset()


def has_one_of(claims: dict[str, Any], claim: str, values: frozenset[str]) -> bool:
    """Whether a claim is one of these values, or a list with one of them; numbers and booleans as JSON writes them."""
    value = found(claims, claim)
    return any(_scalar(each) in values for each in (value if isinstance(value, list) else [value]))


def field_lines(claims: dict[str, Any], fields: Iterable[tuple[str, str]]) -> bytes:
    """The header lines of `fields`, pairs of a name and a claim. A list is written with commas. What is not there, or
    is an object, has no line. Raises `UnusableClaimError`."""
    lines = []
    for name, claim in fields:
        value = found(claims, claim)
        values = value if isinstance(value, list) else [value]
        texts = [text for each in values if (text := _scalar(each)) is not None]
        if not texts:
            continue
        text = ",".join([_written(each, _AS_ITEM if isinstance(value, list) else _AS_VALUE) for each in texts])
        if len(text) > _LONGEST_FIELD:
            raise UnusableClaimError
        lines.append(f"{name}: {text}\r\n")
    return "".join(lines).encode()


def _time(value: object) -> float | None:
    """A NumericDate (RFC 7519 section 2). True is a number in Python and no time."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _LATEST:
        return None
    return float(value)


def _identifier(claims: dict[str, Any], claim: str) -> str:
    """A text, or a whole number as text."""
    value = found(claims, claim)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if not isinstance(value, str):
        raise UnusableClaimError
    return value


def _scalar(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int | float) else None


def _written(text: str, spelling: tuple[str, ...]) -> str:
    """As a header line has it. Blanks at the ends of a line would be lost."""
    try:
        octets = text.encode("utf-8")
    except UnicodeEncodeError:
        # Half of a surrogate pair, which JSON can write and nobody can encode.
        raise UnusableClaimError from None
    written = "".join([spelling[octet] for octet in octets])
    bare = written.strip(" ")
    if bare == written:
        return written
    before = len(written) - len(written.lstrip(" "))
    return "%20" * before + bare + "%20" * (len(written) - len(bare) - before)

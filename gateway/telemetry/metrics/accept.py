"""The value of an `Accept` field (RFC 9110 section 12.5.1)."""

import re
from collections.abc import Iterator
from typing import Final

_QUALITY: Final = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")
"""RFC 9110 section 12.4.2."""


def media_ranges(accept: str) -> Iterator[tuple[str, float]]:
    """Each media range in small letters, without parameters, and its quality; one that is no quality is 0."""
    for item in accept.split(","):
        media, *parameters = (part.strip().lower() for part in item.split(";"))
        quality = 1.0
        for parameter in parameters:
            name, _, value = map(str.strip, parameter.partition("="))
            if name == "q":
                quality = float(value) if _QUALITY.fullmatch(value) else 0.0
        yield media, quality

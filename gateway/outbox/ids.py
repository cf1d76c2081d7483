"""Ids of messages: a prefix, the time, and what makes them unlike any other."""

import secrets
import time
from typing import Final

# Crockford's letters sort as the numbers that they stand for, and have none that is read as another.
_LETTERS: Final = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(wall: float | None = None) -> str:
    """`msg_` and 26 letters and digits: 48 bits of milliseconds, 80 random bits (https://github.com/ulid/spec). Later
    ids are greater, to the millisecond."""
    milliseconds = int((time.time() if wall is None else wall) * 1000)
    number = (milliseconds & (1 << 48) - 1) << 80 | secrets.randbits(80)
    return "msg_" + "".join(_LETTERS[number >> shift & 31] for shift in range(125, -1, -5))

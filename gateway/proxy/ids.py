"""Request ids that are unique in the fleet and cost next to nothing.

    id = 64 random bits of the process, then n * K mod 2^64 for the n-th request (K odd: a permutation, no repetition)

32 hexadecimal digits, so that an id is a W3C trace id as well, and its second half a span id. Unique, not secret.
"""

import random
from binascii import hexlify
from typing import Final

_K: Final = 0x9E3779B97F4A7C15  # 2^64 / golden ratio: consecutive ids look unrelated
_MASK: Final = 0xFFFFFFFFFFFFFFFF


class Ids:
    """Makes the ids of one process."""

    __slots__ = ("_n", "_prefix")

    def __init__(self, rng: random.Random) -> None:
        self._prefix = b"%016x" % (rng.getrandbits(64) | 1)
        self._n = rng.getrandbits(63) | 1

    def new(self) -> bytes:
        """HOT."""
        n = self._n = self._n + 1
        return self._prefix + hexlify((n * _K & _MASK).to_bytes(8, "big"))

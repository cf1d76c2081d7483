"""Request ids that are unique in the fleet and cost next to nothing.

    id = 64 random bits of the process, then n * K mod 2^32 for the n-th request (K odd: each value comes once before
         any comes again), then a number that begins at random and grows by 1 each time that all values have come

32 hexadecimal digits, so that an id is a W3C trace id as well, and its second half a span id. The highest bit of the
last number is never set: such span ids are left for attempts (`gateway.telemetry.tracing.trace`). Unique, not secret.
"""

import random
from typing import Final

# 2^32 / golden ratio: consecutive ids look unrelated. No number is above 2^62, which the compiler keeps in a register.
_K: Final = 0x9E3779B1
_MASK: Final = 0xFFFFFFFF
_MOST_ROUNDS: Final = 0x7FFFFFFF
_OCTETS: Final[tuple[bytes, ...]] = tuple([b"%02x" % octet for octet in range(256)])


class Ids:
    """Makes the ids of one process."""

    __slots__ = ("_first", "_n", "_prefix", "_round", "_tail")

    def __init__(self, rng: random.Random) -> None:
        self._prefix = b"%016x" % (rng.getrandbits(64) | 1)
        self._first = self._n = rng.getrandbits(32)
        self._round = rng.getrandbits(31) | 1
        self._tail = b"%08x" % self._round

    def new(self) -> bytes:
        """HOT."""
        n = self._n = (self._n + _K) & _MASK
        if n == self._first:
            self._round = (self._round + 1) & _MOST_ROUNDS
            self._tail = b"%08x" % self._round
        return b"".join(
            (
                self._prefix,
                _OCTETS[n >> 24],
                _OCTETS[n >> 16 & 0xFF],
                _OCTETS[n >> 8 & 0xFF],
                _OCTETS[n & 0xFF],
                self._tail,
            )
        )

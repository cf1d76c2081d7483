"""Which of several upstreams a request goes to, in proportion to their weights.

    by turns   smooth weighted round-robin, as in nginx: of any `sum(weights)` requests in a row each upstream gets as
               many as its weight
    by key     weighted rendezvous hashing: the same key leads to the same upstream, in every process, at any time

Rendezvous: an upstream has the score -ln(u) / weight, where u in (0, 1) is a hash of its name and the key. The lowest
score wins, so each upstream wins its part of all keys (Schindelhauer and Schomaker, Weighted Distributed Hash Tables,
2005). A weight that grows lowers the scores of its upstream and of no other: keys move to that upstream alone, and only
as many as its part has grown by. The other way round it is the same, so no change moves more keys than it has to.

The hash has the names of the upstreams and nothing of the route: a client is with the same upstream on all routes that
split in the same way.

An upstream of weight 0 is never chosen.
"""

import math
from collections.abc import Sequence
from functools import reduce
from hashlib import blake2b
from typing import Final

# What is kept of the answers for keys, so that a client that comes again costs no hash.
_MOST_KEYS: Final = 4096
# Longer ones are not kept: the value of a field may have as many bytes as a head.
_LONGEST_KEY: Final = 256
_RANGE: Final = 2.0**64


class Weights:
    """Of some upstreams, each a name and a weight of at least 0, one of which is above 0. Answers are indices."""

    __slots__ = ("_credits", "_known", "_parts", "_total", "weights")

    def __init__(self, upstreams: Sequence[tuple[str, int]]) -> None:
        self.weights = tuple([weight for _, weight in upstreams])
        divisor = reduce(math.gcd, self.weights)
        if not divisor:
            raise ValueError("every weight is 0")
        self._parts = [
            (index, name.encode() + b"\0", weight // divisor)
            for index, (name, weight) in enumerate(upstreams)
            if weight
        ]
        self._credits = [0] * len(upstreams)
        self._total = sum(part for _, _, part in self._parts)
        self._known: dict[bytes, int] = {}

    @property
    def heaviest(self) -> int:
        """The one with the largest weight; of several the first."""
        return self.weights.index(max(self.weights))

    def share(self, index: int) -> float:
        """The part of all requests or keys, from 0 to 1."""
        return self.weights[index] / sum(self.weights)

    def next(self) -> int:
        """Whose turn it is. Each gains its weight, and the one that is chosen pays for all. HOT."""
        held = self._credits
        best = -1
        for index, _, part in self._parts:
            held[index] += part
            if best < 0 or held[index] > held[best]:
                best = index
        held[best] -= self._total
        return best

    def of(self, key: bytes) -> int:
        """Whom a key belongs to. HOT."""
        known = self._known
        found = known.get(key)
        if found is None:
            if len(key) > _LONGEST_KEY:
                return self._of(key)
            if len(known) >= _MOST_KEYS:
                known.clear()
            found = known[key] = self._of(key)
        return found

    def _of(self, key: bytes) -> int:
        best, least = -1, math.inf
        for index, salt, part in self._parts:
            hashed = int.from_bytes(blake2b(salt + key, digest_size=8).digest(), "big")
            score = -math.log((hashed + 0.5) / _RANGE) / part
            if score < least:
                best, least = index, score
        return best

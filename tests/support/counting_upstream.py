"""A service with an effect: it counts what it has carried out for each idempotency key.

It stands for a participant that honours keys (`honours=True`: one effect for each key, however often it is asked), or
for one that does not look at them. Each answer has a number of its own, so a repeated answer is told from a new one.
"""

import itertools
from collections import Counter

from tests.conformance.wire.upstream import Peer, Seen, ok
from tests.support.held_upstream import HeldUpstream


class CountingUpstream(HeldUpstream):
    """`effects` are counted by key, `asked` are the requests that have come. While `gate` is not set, answers wait."""

    def __init__(self, path: str = "/pay", *, honours: bool = True) -> None:
        super().__init__(path)
        self.effects: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, bytes] = {}
        self.path = path
        self._honours = honours
        self._numbers = itertools.count(1)

    def note(self, seen: Seen) -> bytes:
        key = seen.get("Idempotency-Key") or ""
        self.asked[key] += 1
        if not self._honours or key not in self.answers:
            self.effects[key] += 1
            self.answers[key] = b"%b %d" % (key.encode(), next(self._numbers))
        return self.answers[key]

    def answer(self, peer: Peer, seen: Seen, noted: bytes) -> None:
        peer.send(ok(noted, b"Content-Type: text/plain"))

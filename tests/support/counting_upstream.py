"""A service with an effect: it counts what it has carried out for each idempotency key.

It stands for a participant that honours keys (`honours=True`: one effect for each key, however often it is asked), or
for one that does not look at them. Each answer has a number of its own, so a repeated answer is told from a new one.
"""

import itertools
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, ok


class CountingUpstream:
    """`effects` are counted by key, `asked` are the requests that have come. While `gate` is not set, answers wait."""

    def __init__(self, path: str = "/pay", *, honours: bool = True) -> None:
        self.effects: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, bytes] = {}
        self.gate = threading.Event()
        self.gate.set()
        self.path = path
        self._honours = honours
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._upstream = ProgrammedUpstream()
        self._upstream.on(path, self._answer)

    def __enter__(self) -> Self:
        self._upstream.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.gate.set()
        self._upstream.__exit__(kind, error, tb)

    @property
    def url(self) -> str:
        return self._upstream.url

    def _answer(self, peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        key = seen.get("Idempotency-Key") or ""
        with self._lock:
            self.asked[key] += 1
            if not self._honours or key not in self.answers:
                self.effects[key] += 1
                self.answers[key] = b"%b %d" % (key.encode(), next(self._numbers))
            body = self.answers[key]
        self.gate.wait(60.0)
        peer.send(ok(body, b"Content-Type: text/plain"))

"""A receiver of messages: it remembers what has come for each id, and answers as it is told."""

import threading
from collections import Counter, deque
from types import TracebackType
from typing import Self

from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, ok


class Receiver:
    """`seen` are the requests in their order, with their bodies; `attempts` are counted by message id. `answers` are
    statuses for the next requests, 200 when there are none left; a tuple has header lines behind its status. While
    `gate` is not set, answers wait. `most` is how many were under way at once, for each value of `X-Key`."""

    def __init__(self, path: str = "/in") -> None:
        self.seen: list[tuple[Seen, bytes]] = []
        self.attempts: Counter[str] = Counter()
        self.answers: deque[int | tuple[int, bytes]] = deque()
        self.usual = 200
        self.gate = threading.Event()
        self.gate.set()
        self.most: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()
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

    @property
    def bodies(self) -> list[bytes]:
        with self._lock:
            return [body for _, body in self.seen]

    @property
    def each_once(self) -> list[bytes]:
        """The bodies without those of ids that have come before."""
        with self._lock:
            first = {seen.get("webhook-id"): body for seen, body in reversed(self.seen)}
            return list(reversed(first.values()))

    def _answer(self, peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        key = seen.get("X-Key") or ""
        with self._lock:
            self.seen.append((seen, bytes(seen.body)))
            self.attempts[seen.get("webhook-id") or ""] += 1
            self._under_way[key] += 1
            self.most[key] = max(self.most[key], self._under_way[key])
            answer = self.answers.popleft() if self.answers else self.usual
        self.gate.wait(60.0)
        status, line = answer if isinstance(answer, tuple) else (answer, b"X-None: 1")
        with self._lock:
            self._under_way[key] -= 1
        peer.send(ok(b"", line, status=status))

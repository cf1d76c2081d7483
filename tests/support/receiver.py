"""A receiver of messages: it remembers what has come for each id, and answers as it is told."""

from collections import Counter, deque

from tests.conformance.wire.upstream import Peer, Seen, ok
from tests.support.held_upstream import HeldUpstream


class Receiver(HeldUpstream):
    """`seen` are the requests in their order, with their bodies; `attempts` are counted by message id. `answers` are
    statuses for the next requests, 200 when there are none left; a tuple has header lines behind its status. While
    `gate` is not set, answers wait. `most` is how many were under way at once, for each value of `X-Key`."""

    def __init__(self, path: str = "/in") -> None:
        super().__init__(path)
        self.seen: list[tuple[Seen, bytes]] = []
        self.attempts: Counter[str] = Counter()
        self.answers: deque[int | tuple[int, bytes]] = deque()
        self.usual = 200
        self.most: Counter[str] = Counter()
        self._under_way: Counter[str] = Counter()

    @property
    def bodies(self) -> list[bytes]:
        with self.lock:
            return [body for _, body in self.seen]

    @property
    def each_once(self) -> list[bytes]:
        """The bodies without those of ids that have come before."""
        with self.lock:
            first = {seen.get("webhook-id"): body for seen, body in reversed(self.seen)}
            return list(reversed(first.values()))

    def note(self, seen: Seen) -> int | tuple[int, bytes]:
        key = seen.get("X-Key") or ""
        self.seen.append((seen, bytes(seen.body)))
        self.attempts[seen.get("webhook-id") or ""] += 1
        self._under_way[key] += 1
        self.most[key] = max(self.most[key], self._under_way[key])
        return self.answers.popleft() if self.answers else self.usual

    def answer(self, peer: Peer, seen: Seen, noted: int | tuple[int, bytes]) -> None:
        status, line = noted if isinstance(noted, tuple) else (noted, b"X-None: 1")
        with self.lock:
            self._under_way[seen.get("X-Key") or ""] -= 1
        peer.send(ok(b"", line, status=status))

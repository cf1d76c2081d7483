"""Participants of sagas: one server that acts on steps and on their compensations, honours idempotency keys, and fails
when it is told to."""

import json
from collections import Counter, defaultdict, deque

from tests.conformance.wire.upstream import Peer, Seen, ok
from tests.support.held_upstream import HeldUpstream

Told = int | tuple[int, bytes]
LOST = 0
"""An answer that is lost: the participant acts, and closes the connection."""
UNAUTHORIZED = 401
"""Whoever asks is judged before the key is looked at."""


class Participants(HeldUpstream):
    """`/do/<step>` acts and `/undo/<step>` undoes. `effects` counts acts and `undone` compensations, by run and step; a
    repetition of a key counts in `attempts` alone. `answers` are statuses for the next requests of a path, 200 when
    there are none left; a tuple has a header line. A body with `"fail":true` gets 422. While `gate` is not set, answers
    wait."""

    def __init__(self) -> None:
        steps = ("reserve", "pay", "ship", "look")
        super().__init__(*(f"/{direction}/{step}" for step in steps for direction in ("do", "undo")))
        self.effects: Counter[tuple[str, str]] = Counter()
        self.undone: Counter[tuple[str, str]] = Counter()
        self.attempts: Counter[str] = Counter()
        self.seen: list[tuple[Seen, bytes]] = []
        self.answers: dict[str, deque[Told]] = defaultdict(deque)
        self.usual: dict[str, int] = {}
        self.results: dict[str, bytes] = {}
        self._known: dict[str, int] = {}

    def of(self, run: str, step: str) -> tuple[int, int]:
        """How often it was done and undone."""
        with self.lock:
            return self.effects[run, step], self.undone[run, step]

    def lines(self, run: str) -> list[bytes]:
        """The requests of a run, in their order."""
        with self.lock:
            return [seen.line for seen, _ in self.seen if (seen.get("Idempotency-Key") or "").startswith(f'"{run}.')]

    def note(self, seen: Seen) -> tuple[int, bytes]:
        key = (seen.get("Idempotency-Key") or "").strip('"')
        self.seen.append((seen, bytes(seen.body)))
        self.attempts[key] += 1
        told = self.answers[seen.path]
        answer = told.popleft() if told else self.usual.get(seen.path, 200)
        status, line = answer if isinstance(answer, tuple) else (answer, b"X-None: 1")
        if b'"fail":true' in seen.body:
            status = 422
        # The first answer of a key that was an act is the one that is repeated.
        first = self._known.get(key)
        if first is not None and status != UNAUTHORIZED:
            status = first
        elif status in {LOST, 200}:
            self._known[key] = 200
            # A message of the outbox has a key of one part.
            if key.count(".") == 2:
                run, step, direction = key.split(".")
                (self.effects if direction == "do" else self.undone)[run, step] += 1
        return status, line

    def answer(self, peer: Peer, seen: Seen, noted: tuple[int, bytes]) -> None:
        status, line = noted
        if status == LOST:
            peer.reset()
            return
        key = (seen.get("Idempotency-Key") or "").strip('"')
        body = self.results.get(seen.path, json.dumps({"id": f"{seen.path[4:]}-{key[-9:]}"}).encode())
        peer.send(ok(body, line, b"Content-Type: application/json", status=status))

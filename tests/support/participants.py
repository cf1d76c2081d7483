"""Participants of sagas: one server that acts on steps and on their compensations, honours idempotency keys, and fails
when it is told to."""

import json
import threading
from collections import Counter, defaultdict, deque
from types import TracebackType
from typing import Self

from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, ok

Told = int | tuple[int, bytes]
LOST = 0
"""An answer that is lost: the participant acts, and closes the connection."""
UNAUTHORIZED = 401
"""Whoever asks is judged before the key is looked at."""


class Participants:
    """`/do/<step>` acts and `/undo/<step>` undoes. `effects` counts acts and `undone` compensations, by run and step; a
    repetition of a key counts in `attempts` alone. `answers` are statuses for the next requests of a path, 200 when
    there are none left; a tuple has a header line. A body with `"fail":true` gets 422. While `gate` is not set, answers
    wait."""

    def __init__(self) -> None:
        self.effects: Counter[tuple[str, str]] = Counter()
        self.undone: Counter[tuple[str, str]] = Counter()
        self.attempts: Counter[str] = Counter()
        self.seen: list[tuple[Seen, bytes]] = []
        self.answers: dict[str, deque[Told]] = defaultdict(deque)
        self.usual: dict[str, int] = {}
        self.results: dict[str, bytes] = {}
        self.gate = threading.Event()
        self.gate.set()
        self._known: dict[str, int] = {}
        self._lock = threading.Lock()
        self._upstream = ProgrammedUpstream()
        for step in ("reserve", "pay", "ship", "look"):
            self._upstream.on(f"/do/{step}", self._answer)
            self._upstream.on(f"/undo/{step}", self._answer)

    def __enter__(self) -> Self:
        self._upstream.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.gate.set()
        self._upstream.__exit__(kind, error, tb)

    @property
    def url(self) -> str:
        return self._upstream.url

    def of(self, run: str, step: str) -> tuple[int, int]:
        """How often it was done and undone."""
        with self._lock:
            return self.effects[run, step], self.undone[run, step]

    def lines(self, run: str) -> list[bytes]:
        """The requests of a run, in their order."""
        with self._lock:
            return [seen.line for seen, _ in self.seen if (seen.get("Idempotency-Key") or "").startswith(f'"{run}.')]

    def _answer(self, peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        key = (seen.get("Idempotency-Key") or "").strip('"')
        with self._lock:
            self.seen.append((seen, bytes(seen.body)))
            self.attempts[key] += 1
            told = self.answers[seen.path]
            answer = told.popleft() if told else self.usual.get(seen.path, 200)
            status, line = answer if isinstance(answer, tuple) else (answer, b"X-None: 1")
            # The first answer of a key that was an act, or its certain refusal, is the one that is repeated.
            if b'"fail":true' in seen.body:
                status = 422
            first = self._known.get(key)
            if first is not None and status != UNAUTHORIZED:
                status = first
            elif status in {LOST, 200}:
                self._known[key] = 200
                run, step, direction = key.split(".")
                (self.effects if direction == "do" else self.undone)[run, step] += 1
        self.gate.wait(60.0)
        if status == LOST:
            peer.reset()
            return
        body = self.results.get(seen.path, json.dumps({"id": f"{seen.path[4:]}-{key[-9:]}"}).encode())
        peer.send(ok(body, line, b"Content-Type: application/json", status=status))

"""The base of upstreams whose answers a test holds back: an upstream that notes each request under a lock, waits at a
gate, and answers then."""

import threading
from types import TracebackType
from typing import Any, Self

from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen


class HeldUpstream:
    """While `gate` is not set, answers wait. `lock` guards what is noted of requests, which come on several threads."""

    def __init__(self, *paths: str) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.lock = threading.Lock()
        self._upstream = ProgrammedUpstream()
        for path in paths:
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

    def note(self, seen: Seen) -> Any:
        """Note a request that has come whole, under the lock; what is to be answered."""
        raise NotImplementedError

    def answer(self, peer: Peer, seen: Seen, noted: Any) -> None:
        """Answer it, with what `note` has returned. The gate is open."""
        raise NotImplementedError

    def _answer(self, peer: Peer, seen: Seen) -> None:
        peer.read_body(seen)
        with self.lock:
            noted = self.note(seen)
        self.gate.wait(60.0)
        self.answer(peer, seen, noted)

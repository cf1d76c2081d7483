"""A light stream of requests, as of clients that notice every request that is lost."""

import http.client
import threading
from collections import Counter
from types import TracebackType
from typing import Self

from tests.support import plain_http

BODIES = {"GET": None, "PUT": b"a body", "POST": b"a body", "DELETE": None}
PAUSE = 0.03


class Traffic:
    """One client for each method, with a connection for each request, until the context ends.

    `seen` counts (method, status), or the exception's name in place of the status.
    """

    def __init__(self, port: int, target: str) -> None:
        self.seen: Counter[tuple[str, int | str]] = Counter()
        self._port = port
        self._target = target
        self._over = threading.Event()
        self._clients = [threading.Thread(target=self._ask, args=(method,)) for method in BODIES]

    def __enter__(self) -> Self:
        for client in self._clients:
            client.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._over.set()
        for client in self._clients:
            client.join()

    def lost(self) -> dict[tuple[str, int | str], int]:
        """What was not answered 200."""
        return {outcome: count for outcome, count in self.seen.items() if outcome[1] != http.HTTPStatus.OK}

    def _ask(self, method: str) -> None:
        while not self._over.wait(PAUSE):
            self.seen[method, self._answer(method)] += 1

    def _answer(self, method: str) -> int | str:
        try:
            return plain_http.request(self._port, self._target, method=method, body=BODIES[method]).status
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__

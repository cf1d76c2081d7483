"""A listener of the live view (`GET /api/resilience/live`)."""

import http.client
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from gateway.syntax.merge_patch import patched
from tests.support.gateway_process import GatewayProcess
from tests.support.waiting import PATIENCE

LIVE = "/api/resilience/live"


class Stream:
    """One listener, and what it has made of the events."""

    def __init__(self, port: int, headers: dict[str, str]) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self.connection.request("GET", LIVE, headers={"Accept": "text/event-stream", **headers})
        self.response = self.connection.getresponse()
        assert self.response.status == 200, self.response.read()
        self.document: Any = None
        self.errors: list[dict[str, Any]] = []
        self.patches: list[Any] = []

    def event(self) -> tuple[str, Any]:
        """The next event; ("", None) when the stream is over."""
        name, data = "", None
        while line := self.response.readline():
            text = line.decode().rstrip("\n")
            if text.startswith("event: "):
                name = text[7:]
            elif text.startswith("data: "):
                data = json.loads(text[6:])
            elif not text and name:
                self._taken(name, data)
                return name, data
        return "", None

    def until(self, condition: Any) -> Any:
        """Take events until the document is as wanted."""
        while self.document is None or not condition(self.document):
            assert self.event()[0], "the stream has ended"
        return self.document

    def _taken(self, name: str, data: Any) -> None:
        if name == "snapshot":
            self.document = data
        elif name == "patch":
            self.patches.append(data)
            self.document = patched(self.document, data)
        elif name == "errors":
            self.errors += data["errors"]


@contextmanager
def listening(gateway: GatewayProcess, port: int | None = None, **headers: str) -> Iterator[Stream]:
    stream = Stream(port or gateway.port, headers)
    try:
        yield stream
    finally:
        stream.connection.close()

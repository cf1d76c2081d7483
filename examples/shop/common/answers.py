"""Answers as values: what a service decides, and what an idempotency key repeats."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Answer:
    """A status and a JSON object. `replayed` marks one that an earlier request with the same key has got already."""

    status: int
    body: Mapping[str, Any]
    replayed: bool = False

    def response(self) -> web.Response:
        """For the client."""
        headers = {"Idempotent-Replayed": "true"} if self.replayed else {}
        kind = "application/json" if self.status < 400 else "application/problem+json"
        return web.Response(status=self.status, text=json.dumps(self.body) + "\n", content_type=kind, headers=headers)


class Refused(Exception):
    """The request ends here, with this answer, and nothing of it is kept."""

    def __init__(self, status: int, reason: str, detail: str, retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.answer = problem(status, reason, detail)
        self.retry_after = retry_after


def problem(status: int, reason: str, detail: str) -> Answer:
    """An error in the form of RFC 9457, with a stable word as its `reason`."""
    body = {"type": f"urn:problem:shop:{reason}", "status": status, "reason": reason, "detail": detail}
    return Answer(status, body)

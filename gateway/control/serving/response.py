"""Answers of the control plane as the bytes of a whole response, where no web framework is in between."""

from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

ALWAYS: Final = {
    "Connection": "close",
    "Server": "gateway",
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
}
"""The fields that every answer of the control plane has."""


def response_bytes(status: int, fields: Mapping[str, str], body: bytes, request_id: str) -> bytes:
    """The response. `fields` are those that this answer has besides `ALWAYS`, its length, date and id."""
    lines = [f"HTTP/1.1 {status} {title_of(status)}"]
    length = {"Content-Length": str(len(body)), "Date": formatdate(usegmt=True), "X-Request-ID": request_id}
    lines += [f"{name}: {value}" for name, value in {**fields, **ALWAYS, **length}.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def title_of(status: int) -> str:
    """The phrase of a status."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"

"""Reads HTTP/1 responses strictly and tells exactly how each ended.

The parser is a generator that asks for bytes, so the blocking and the asynchronous client share it. It accepts only
what RFC 9112 allows a server to send and raises `ProtocolViolation` for everything else; bytes after a response stay
for the next one. Content codings are left alone.
"""

import re
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Literal

Ending = Literal["complete", "closed", "reset", "timeout"]
Headers = list[tuple[str, str]]

STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9]) ([\t\x20-\x7e\x80-\xff]*)")
FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):([\t\x20-\x7e\x80-\xff]*)")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(;[\t\x20-\x7e\x80-\xff]*)?")


class ProtocolViolation(AssertionError):
    """The peer sent something that is not HTTP/1."""


class NoResponse(AssertionError):
    """The connection ended, or the time was over, before the head of a response was complete."""

    def __init__(self, ending: Ending, received: bytes) -> None:
        super().__init__(f"no response head: {ending}, after {received!r}")
        self.ending = ending
        self.received = received


@dataclass
class RawResponse:
    """`ending` is "complete", or how the body was cut short: by FIN, by RST, by our own timeout.

    `framing` says how the body's end was known. `interim` are the 1xx responses before this one.
    """

    version: str
    status: int
    reason: str
    headers: Headers
    framing: Literal["none", "length", "chunked", "close"] = "none"
    body: bytes = b""
    trailers: Headers = field(default_factory=list)
    ending: Ending = "complete"
    interim: "list[RawResponse]" = field(default_factory=list)

    def all(self, name: str) -> list[str]:
        """The values of every header of this name, in order; upper and lower case are the same."""
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """The value of the header, None when absent; AssertionError when there are several."""
        values = self.all(name)
        if len(values) > 1:
            raise AssertionError(f"{name} appears {len(values)} times: {values}")
        return values[0] if values else None

    @property
    def complete(self) -> bool:
        return self.ending == "complete"


class Buffer:
    """What arrived and is not yet consumed, and how the stream ended if it has."""

    def __init__(self) -> None:
        self.octets = bytearray()
        self.ended: Ending | None = None

    def feed(self, octets: bytes) -> None:
        """More bytes; none at all are the end of the stream."""
        if octets:
            self.octets += octets
        else:
            self.ended = "closed"

    def take(self, count: int) -> bytes:
        taken = bytes(self.octets[:count])
        del self.octets[:count]
        return taken


Parsing = Generator[None, None, RawResponse]


class _Cut(Exception):
    """The stream ended inside a body."""


def parse_response(buffer: Buffer, method: str = "GET") -> Parsing:
    """Parse one final response; yields whenever `buffer` needs more, which may be its end."""
    interim: list[RawResponse] = []
    while True:
        response = yield from _head(buffer)
        if response.status >= 200 or response.status == 101:
            break
        interim.append(response)
    response.interim = interim
    body = bytearray()
    try:
        yield from _body(buffer, response, method, body)
    except _Cut:
        response.ending = buffer.ended or "closed"
    response.body = bytes(body)
    return response


def _head(buffer: Buffer) -> Parsing:
    while (end := buffer.octets.find(b"\r\n\r\n")) < 0:
        if buffer.ended:
            raise NoResponse(buffer.ended, bytes(buffer.octets))
        yield
    first, *rest = buffer.take(end + 4)[:-4].split(b"\r\n")
    match = STATUS_LINE.fullmatch(first)
    if not match:
        raise ProtocolViolation(f"status line {first!r}")
    minor, status, reason = match.groups()
    return RawResponse(f"1.{minor.decode()}", int(status), reason.decode("iso-8859-1"), [_field(line) for line in rest])


def _field(line: bytes) -> tuple[str, str]:
    match = FIELD.fullmatch(line)
    if not match:
        raise ProtocolViolation(f"header line {line!r}")
    name, value = match.groups()
    return name.decode("ascii"), value.decode("iso-8859-1").strip(" \t")


def _body(buffer: Buffer, response: RawResponse, method: str, body: bytearray) -> Generator[None, None, None]:
    lengths = response.all("content-length")
    codings = [coding.strip().lower() for value in response.all("transfer-encoding") for coding in value.split(",")]
    if len(lengths) > 1 or (lengths and not (lengths[0].isascii() and lengths[0].isdigit())):
        raise ProtocolViolation(f"Content-Length {lengths}")
    if lengths and codings:
        raise ProtocolViolation("both Content-Length and Transfer-Encoding")
    if codings and (response.version == "1.0" or codings != ["chunked"]):
        raise ProtocolViolation(f"Transfer-Encoding {codings} in HTTP/{response.version}")
    if response.status in {101, 204} and (codings or (lengths and response.status == 204)):
        raise ProtocolViolation(f"framing headers in a {response.status}")
    if method == "HEAD" or response.status in {101, 204, 304} or (method == "CONNECT" and response.status < 300):
        return
    if codings:
        response.framing = "chunked"
        yield from _chunks(buffer, response, body)
    elif lengths:
        response.framing = "length"
        yield from _exactly(buffer, int(lengths[0]), body)
    else:
        response.framing = "close"
        while not buffer.ended:
            yield
        body += buffer.take(len(buffer.octets))
        if buffer.ended != "closed":
            raise _Cut


def _exactly(buffer: Buffer, count: int, body: bytearray) -> Generator[None, None, None]:
    while count:
        piece = buffer.take(count)
        body += piece
        count -= len(piece)
        if count:
            if buffer.ended and not buffer.octets:
                raise _Cut
            yield


def _line(buffer: Buffer) -> Generator[None, None, bytes]:
    while (end := buffer.octets.find(b"\r\n")) < 0:
        if buffer.ended:
            raise _Cut
        yield
    return buffer.take(end + 2)[:-2]


def _chunks(buffer: Buffer, response: RawResponse, body: bytearray) -> Generator[None, None, None]:
    while True:
        line = yield from _line(buffer)
        match = CHUNK_SIZE.fullmatch(line)
        if not match:
            raise ProtocolViolation(f"chunk size {line!r}")
        size = int(match[1], 16)
        if size == 0:
            break
        yield from _exactly(buffer, size, body)
        end = yield from _line(buffer)
        if end:
            raise ProtocolViolation(f"end of chunk {end!r}")
    while line := (yield from _line(buffer)):
        response.trailers.append(_field(line))

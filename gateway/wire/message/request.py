"""The head of a request: the rules of RFC 9112 and RFC 9110 that the tokenizer leaves to its user.

Everything ambiguous is refused (`RequestError`, with the status to answer) and the connection closes after it: a front
and a back that disagree about where a request ends is how requests are smuggled. The target travels byte for byte; only
an absolute-form target loses its scheme and authority, as section 3.2.2 of RFC 9112 demands.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.syntax import hosts
from gateway.wire.message.fields import FieldError, Fields, TooManyFieldsError, parse_request_fields

_METHOD: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,32}")
# Every byte but controls, space and '#'. Bytes above 0x7f are not in RFC 3986 yet harmless and in use: they pass.
_TARGET: Final = re.compile(rb"[\x21\x22\x24-\x7e\x80-\xff]+")
_ABSOLUTE: Final = re.compile(rb"(https?)://([^/?]*)(.*)", re.IGNORECASE)
_VERSIONS: Final = {b"HTTP/1.1": 1, b"HTTP/1.0": 0}

# Methods seen before decode once; anything else pays for the check. RFC 9110 section 9, RFC 5789.
_KNOWN: Final = {name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH")}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may send before a request is refused; sizes in bytes. Without `underscores` the fields that have
    one in their name are dropped."""

    request_line_bytes: int = 8192
    header_bytes: int = 32_768
    header_count: int = 100
    underscores: bool = True


class RequestError(Exception):
    """A request that is refused for its form. `reason` is the stable word, `status` the answer."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.reason = reason
        self.detail = detail


class Request:
    """One request's head, valid.

    `target` is as received, `path` is the origin-form that is matched and forwarded, both without an API key in the
    query where the route takes one there; `host` is the authority that the
    client meant, as `gateway.syntax.hosts.host` spells it; `authority` the same as it was written. `plan` is the
    front's, for what it derives from the head: a connection that receives the same head again uses the same object
    again. `credential` likewise belongs to whoever asks who sends the request.
    """

    __slots__ = (
        "authority",
        "credential",
        "expect_continue",
        "fields",
        "has_body",
        "host",
        "keep_alive",
        "method",
        "minor",
        "path",
        "plan",
        "target",
    )

    def __init__(self, method: str, target: bytes, minor: int, fields: Fields) -> None:
        self.method = method
        self.target = target
        self.path = target
        self.minor = minor
        self.fields = fields
        self.has_body = fields.chunked or bool(fields.length)
        self.keep_alive = not fields.close and (bool(minor) or fields.keep_alive)
        self.expect_continue = False
        self.authority = b""
        self.host = b""
        self.plan: object = None
        self.credential: object = None

    def __repr__(self) -> str:
        # Without the query, in which people put what is secret.
        return f"<Request {self.method} {self.target.partition(b'?')[0]!r} HTTP/1.{self.minor}>"

    @property
    def wants_websocket(self) -> bool:
        """RFC 6455 section 4.1: a GET without a body that lists the upgrade."""
        fields = self.fields
        return (
            fields.upgrade == b"websocket"
            and fields.upgrade_listed
            and self.method == "GET"
            and self.minor == 1
            and not self.has_body
        )


def _bad(detail: str) -> RequestError:
    return RequestError(400, "bad_request", detail)


def parse_request_line(line: bytes) -> tuple[str, bytes, int]:
    """Method, target and minor version of a request line without its line end."""
    parts = line.split(b" ")
    if len(parts) != 3:
        raise _bad("the request line is not a method, a target and a version")
    method, target, version = parts
    minor = _VERSIONS.get(version)
    if minor is None:
        raise _bad("the HTTP version is neither 1.1 nor 1.0")
    name = _KNOWN.get(method)
    if name is None:
        if not _METHOD.fullmatch(method):
            raise _bad("the method is not a token")
        name = method.decode("ascii")
    if not _TARGET.fullmatch(target):
        raise _bad("the request target holds a control byte, a space or a fragment")
    return name, target, minor


def parse_fields(block: bytes, limits: Limits) -> Fields:
    """The field block of a request, with this module's errors."""
    try:
        return parse_request_fields(block, limits.header_count, underscores=limits.underscores)
    except TooManyFieldsError as excess:
        raise RequestError(431, "headers_too_large", str(excess)) from None
    except FieldError as error:
        raise _bad(f"the header section is malformed: {error}") from None


def check(request: Request) -> None:
    """Everything that only method, target and fields together can tell. Raises `RequestError`."""
    fields = request.fields
    hosts = fields.hosts
    if len(hosts) != 1:
        if hosts:
            raise _bad("more than one Host")
        if request.minor:
            raise _bad("Host is missing")
        authority = host = b""
    else:
        authority = hosts[0]
        valid = _host_of(authority)
        if valid is None:
            raise _bad("Host is not valid")
        host = valid
    if request.method == "CONNECT":
        raise RequestError(501, "bad_request", "CONNECT is not offered")
    target = request.target
    if target[0] != 0x2F:  # not origin-form
        authority, host = _other_form(request, authority, host)
    request.authority = authority
    request.host = host
    if fields.transfer_encoding is not None:
        if not request.minor:
            raise _bad("Transfer-Encoding in an HTTP/1.0 request")
        if not fields.chunked:
            raise RequestError(501, "bad_request", "the only transfer coding understood is chunked")
    if fields.expect is not None and request.minor:
        # A list, which may have empty elements (RFC 9110 section 5.6.1).
        expected = {each.strip(b" \t") for each in fields.expect.split(b",")} - {b""}
        if expected - {b"100-continue"}:
            raise RequestError(417, "bad_request", "the only expectation understood is 100-continue")
        request.expect_continue = request.has_body and bool(expected)


def _other_form(request: Request, authority: bytes, host: bytes) -> tuple[bytes, bytes]:
    """The authority that a target which is no path means, and the host of it."""
    target = request.target
    if target == b"*":
        if request.method != "OPTIONS":
            raise _bad("the target * is for OPTIONS alone")
        return authority, host
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise _bad("the request target is neither a path nor an http URL")
    authority, path = match[2], match[3]
    named = _host_of(authority)
    if not authority or named is None:
        raise _bad("the authority in the request target is empty, not valid, or has user information")
    if not path and request.method == "OPTIONS":
        request.path = b"*"  # RFC 9112 section 3.2.4
    else:
        request.path = path if path.startswith(b"/") else b"/" + path
    return authority, named


def _host_of(authority: bytes) -> bytes | None:
    """The host of an authority in its one spelling; None when it is not valid."""
    return _known_host_of(authority) if len(authority) <= hosts.LONGEST_AUTHORITY else None


@lru_cache(maxsize=1024)
def _known_host_of(authority: bytes) -> bytes | None:
    """The same few come all the time."""
    parsed = hosts.authority(authority.decode("latin-1"))
    return None if parsed is None else parsed[0].encode()

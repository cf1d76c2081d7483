"""Header fields: from bytes to what matters of them, in one pass.

The grammar is llhttp's (through httptools): it gets one complete field block at a time and rejects bare line feeds,
obs-fold, control bytes, space before a colon, repeated or malformed Content-Length, Content-Length together with
Transfer-Encoding. It tokenizes; what the fields mean is decided here. Requests and responses share the grammar, so both
are parsed as the fields of a request, whose rules on Transfer-Encoding are the stricter ones.

A `Fields` is a pure function of the block's bytes. Clients and upstreams mostly repeat a block on a connection, so each
connection keeps its last one and compares bytes before it parses again.

End-to-end fields are kept as bytes ready to be forwarded, unchanged and in order; hop-by-hop ones (RFC 9110 section
7.6.1) and those that the gateway writes itself are taken out.
"""

import re
from collections.abc import Sequence
from typing import Final

import httptools

_START_LINE: Final = b"GET / HTTP/1.1\r\n"

# Removed always: they belong to one connection. Trailer goes too, since trailers are dropped (docs/behaviour.md).
_HOP_BY_HOP: Final = (
    b"keep-alive",
    b"proxy-connection",
    b"te",
    b"trailer",
    b"proxy-authenticate",
    b"proxy-authorization",
)

_DROP: Final = 0
_CONNECTION: Final = 1
_CONTENT_LENGTH: Final = 2
_TRANSFER_ENCODING: Final = 3
_HOST: Final = 4
_EXPECT: Final = 5
_UPGRADE: Final = 6
_FORWARDED: Final = 7
_VIA: Final = 8
_REQUEST_ID: Final = 9
_CORRELATION_ID: Final = 10
_TRACEPARENT: Final = 11
_TRACESTATE: Final = 12
_IDEMPOTENCY_KEY: Final = 13
_RETRY_AFTER: Final = 14
_DATE: Final = 15
_RATE_LIMIT: Final = 16
_MAX_FORWARDS: Final = 17
_ORIGIN: Final = 18
_REDIRECT: Final = 19
_ALLOW_ORIGIN: Final = 20
_END_TO_END: Final = 21
_KEEP_ALIVE: Final = 22
_DEBUG: Final = 23

# What tells an upstream where a request came from, or what its target was before somebody rewrote it. From whom it does
# not trust, the gateway takes none of it; `x-forwarded-` followed by anything belongs to it too.
_PROVENANCE: Final = (
    *(b"forwarded", b"x-forwarded", b"forwarded-for", b"x-real-ip", b"x-client-ip", b"client-ip"),
    *(b"true-client-ip", b"x-true-client-ip"),
    *(b"x-cluster-client-ip", b"x-remote-ip", b"x-remote-addr", b"x-originating-ip", b"x-original-forwarded-for"),
    *(b"proxy-client-ip", b"wl-proxy-client-ip", b"x-proxyuser-ip", b"cf-connecting-ip", b"cf-connecting-ipv6"),
    *(b"cf-pseudo-ipv4", b"cf-visitor", b"fastly-client-ip", b"fly-client-ip", b"x-appengine-user-ip"),
    *(b"x-azure-clientip", b"x-azure-socketip", b"x-envoy-external-address", b"x-envoy-original-path"),
    *(b"front-end-https", b"x-url-scheme", b"x-scheme", b"x-original-host", b"x-http-host-override", b"x-host"),
    *(b"x-original-url", b"x-original-uri", b"x-rewrite-url", b"x-script-name"),
)
_FORWARDED_PREFIX: Final = b"x-forwarded-"

# Lower case, and a hyphen for everything but letters and digits: that is how upstreams
# behind CGI and its heirs read them (RFC 3875 section 4.1.18; lighttpd and PHP map more than the underscore).
_AS_CGI: Final = bytes(octet if octet < 128 and chr(octet).isalnum() else 0x2D for octet in bytes(range(256)).lower())

_COMMON: Final = dict.fromkeys(_HOP_BY_HOP, _DROP) | {
    b"connection": _CONNECTION,
    b"content-length": _CONTENT_LENGTH,
    b"transfer-encoding": _TRANSFER_ENCODING,
    b"upgrade": _UPGRADE,
    b"via": _VIA,
    b"x-request-id": _REQUEST_ID,
    b"x-correlation-id": _CORRELATION_ID,
}
_REQUEST: Final = _COMMON | {
    b"host": _HOST,
    b"expect": _EXPECT,
    b"traceparent": _TRACEPARENT,
    b"tracestate": _TRACESTATE,
    b"idempotency-key": _IDEMPOTENCY_KEY,
    b"max-forwards": _MAX_FORWARDS,
    b"origin": _ORIGIN,
    # No field of HTTP, but HTTP_PROXY to what a CGI-like upstream starts (CVE-2016-5385).
    b"proxy": _DROP,
    b"x-gateway-debug": _DEBUG,
    # Who asks is for the gateway to say, and for nobody else: see `gateway.identity`.
    b"x-tenant": _DROP,
    b"x-consumer": _DROP,
    **dict.fromkeys(_PROVENANCE, _FORWARDED),
}
_RESPONSE: Final = (
    _COMMON
    | {b"retry-after": _RETRY_AFTER, b"date": _DATE, b"keep-alive": _KEEP_ALIVE}
    | dict.fromkeys((b"ratelimit", b"ratelimit-policy"), _RATE_LIMIT)
    | dict.fromkeys((b"x-ratelimit-limit", b"x-ratelimit-remaining", b"x-ratelimit-reset"), _RATE_LIMIT)
    | dict.fromkeys((b"location", b"content-location", b"refresh"), _REDIRECT)
    | {b"access-control-allow-origin": _ALLOW_ORIGIN}
)

# What identifies a request is echoed into logs and JSON: printable ASCII without quotes and backslash.
_SAFE_ID: Final = re.compile(rb"[!#-\[\]-~]{1,128}")
# Trace Context section 3.2: version 00 ends with the flags, and a later version may have more behind a hyphen.
_TRACEPARENT_FORM: Final = re.compile(
    rb"(?!ff|00.{53}.)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(?:-.*)?"
)


class FieldError(ValueError):
    """The field block is not valid; the message says why and holds nothing of the block."""


class TooManyFieldsError(FieldError):
    """The block has more fields than it may."""


class Fields:
    """What a field block says.

    `lines` are the end-to-end fields, each with its line end, without those that have an attribute here (Content-Length
    is in `lines` nonetheless: it is end-to-end). `length` is None without Content-Length. Values are stripped.
    `forwarded` are the fields that only a trusted proxy may send, with their names as they were written. `redirects`
    and `allows_origin` say that an answer has a field with a URL, or one that lets pages of another origin read it.
    """

    __slots__ = (
        "allows_origin",
        "chunked",
        "close",
        "correlation_id",
        "dated",
        "debug",
        "expect",
        "forwarded",
        "hosts",
        "idempotency_key",
        "keep_alive",
        "keep_alive_parameters",
        "length",
        "lines",
        "max_forwards",
        "origin",
        "rate_limit",
        "redirects",
        "request_id",
        "retry_after",
        "traceparent",
        "tracestate",
        "transfer_encoding",
        "upgrade",
        "upgrade_listed",
        "via",
    )

    def __init__(self) -> None:
        self.lines = b""
        self.length: int | None = None
        self.transfer_encoding: bytes | None = None
        self.chunked = False
        self.close = False
        self.keep_alive = False
        self.upgrade_listed = False
        self.upgrade: bytes | None = None
        self.hosts: list[bytes] = []
        self.expect: bytes | None = None
        self.forwarded: list[tuple[bytes, bytes]] = []
        self.via: list[bytes] = []
        self.request_id: bytes | None = None
        self.correlation_id: bytes | None = None
        self.traceparent: bytes | None = None
        self.tracestate: list[bytes] = []
        self.idempotency_key: bytes | None = None
        self.retry_after: bytes | None = None
        self.dated = False
        self.max_forwards: bytes | None = None
        self.origin: bytes | None = None
        # The admin token, from who wants to know how the request fares. It is not passed on.
        self.debug: bytes | None = None
        self.redirects = False
        self.allows_origin = False
        # The Keep-Alive field of a response; several are one list. It is not passed on.
        self.keep_alive_parameters: bytes | None = None
        # Complete lines: they go on where the gateway has no rate limit of its own to tell of.
        self.rate_limit = b""


class _Tokenizer:
    """Feeds one block after the other to llhttp; replaces the parser whenever a block left it in mid-message."""

    def __init__(self) -> None:
        self._headers: list[tuple[bytes, bytes]] = []
        self._renew()

    def _renew(self) -> None:
        self._reusable = False
        self._parser = httptools.HttpRequestParser(self)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))

    def on_message_complete(self) -> None:
        self._reusable = self._parser.should_keep_alive()

    def tokenize(self, block: bytes) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = []
        self._headers = headers
        self._reusable = False
        try:
            self._parser.feed_data(_START_LINE + block)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError as error:
            self._renew()
            raise FieldError(str(error)) from None
        if not self._reusable:
            self._renew()
        return headers


_tokenizer: Final = _Tokenizer()


def parse_request_fields(block: bytes, max_count: int, *, underscores: bool = True) -> Fields:
    """`block` is everything after the request line up to and including the empty line. Raises `FieldError`.

    A field that has a name with a meaning here, but for `_` or the like instead of `-`, is dropped. Without
    `underscores` every name with one is."""
    headers = _tokenizer.tokenize(block)
    if not underscores:
        headers = [header for header in headers if b"_" not in header[0]]
    return _parse(headers, max_count, _request_names)


def parse_response_fields(block: bytes, max_count: int) -> Fields:
    """`block` is everything after the status line up to and including the empty line. Raises `FieldError`."""
    return _parse(_tokenizer.tokenize(block), max_count, _response_names)


class _Names:
    """What the names of fields mean, by the spellings that came so far. There are few, and `get` is the whole cost of
    one that is known; those beyond the bound pay for being looked at each time."""

    __slots__ = ("_codes", "_of_request", "get", "special")

    def __init__(self, special: dict[bytes, int], *, of_request: bool) -> None:
        self.special = special
        self._of_request = of_request
        self._codes: dict[bytes, int] = {}
        self.get = self._codes.get

    def learn(self, name: bytes) -> int:
        code = self._code(name)
        if len(self._codes) < _MOST_SPELLINGS and len(name) <= _LONGEST_SPELLING:
            self._codes[name] = code
        return code

    def _code(self, name: bytes) -> int:
        low = name.lower()
        if not self._of_request:
            return self.special.get(low, _END_TO_END)
        key = name.translate(_AS_CGI)
        code = _FORWARDED if key.startswith(_FORWARDED_PREFIX) else self.special.get(key, _END_TO_END)
        return code if key == low or code == _END_TO_END else _DROP


_MOST_SPELLINGS: Final = 2048
_LONGEST_SPELLING: Final = 64
_request_names: Final = _Names(_REQUEST, of_request=True)
_response_names: Final = _Names(_RESPONSE, of_request=False)


def _parse(headers: Sequence[tuple[bytes, bytes]], max_count: int, names: _Names) -> Fields:
    if len(headers) > max_count:
        raise TooManyFieldsError(f"more than {max_count} header fields")
    fields = Fields()
    lines: list[bytes] = []
    tokens: list[bytes] = []
    known = names.get
    for name, value in headers:
        code = known(name)
        if code is None:
            code = names.learn(name)
        if code == _END_TO_END:
            lines += (name, b": ", value, b"\r\n")
        else:
            _take(fields, code, name, value.strip(b" \t"), lines, tokens)
    if tokens:
        _apply_connection(fields, tokens, lines, names.special)
    if fields.traceparent == b"":
        fields.traceparent = None
    fields.lines = b"".join(lines)
    return fields


def _take(fields: Fields, code: int, name: bytes, value: bytes, lines: list[bytes], tokens: list[bytes]) -> None:
    if code == _CONNECTION:
        tokens += [token.strip(b" \t").lower() for token in value.split(b",")]
    elif code == _CONTENT_LENGTH:
        fields.length = int(value)
        lines += (name, b": ", value, b"\r\n")
    elif code == _TRANSFER_ENCODING:
        given = fields.transfer_encoding
        fields.transfer_encoding = value.lower() if given is None else given + b"," + value.lower()
        fields.chunked = fields.transfer_encoding == b"chunked"
    elif code == _HOST:
        fields.hosts.append(value)
    elif code == _EXPECT:
        # More than one must all be understood: they are judged as one list.
        fields.expect = value.lower() if fields.expect is None else fields.expect + b"," + value.lower()
    elif code == _UPGRADE:
        fields.upgrade = value.lower()
    elif code == _FORWARDED:
        fields.forwarded.append((name, value))
    elif code == _VIA:
        fields.via.append(value)
        lines += (name, b": ", value, b"\r\n")
    elif code == _RETRY_AFTER:
        fields.retry_after = value
        lines += (name, b": ", value, b"\r\n")
    elif code == _DATE:
        fields.dated = True
        lines += (name, b": ", value, b"\r\n")
    elif code == _RATE_LIMIT:
        fields.rate_limit += b"%b: %b\r\n" % (name, value)
    elif code == _KEEP_ALIVE:
        given = fields.keep_alive_parameters
        fields.keep_alive_parameters = value if given is None else given + b"," + value
    elif code == _IDEMPOTENCY_KEY:
        # Two of them tell nothing apart: none is as good as an empty one.
        fields.idempotency_key = value if fields.idempotency_key is None else b""
        lines += (name, b": ", value, b"\r\n")
    elif code == _REQUEST_ID:
        fields.request_id = value if _SAFE_ID.fullmatch(value) else None
    elif code == _CORRELATION_ID:
        fields.correlation_id = value if _SAFE_ID.fullmatch(value) else None
    elif code == _TRACEPARENT:
        fields.traceparent = _only_traceparent(fields.traceparent, value)
    elif code == _TRACESTATE:
        fields.tracestate.append(value)
    elif code == _DEBUG:
        fields.debug = value
    elif code == _MAX_FORWARDS:
        fields.max_forwards = value if fields.max_forwards is None else fields.max_forwards + b"," + value
        lines += (name, b": ", value, b"\r\n")
    elif code == _ORIGIN:
        fields.origin = value if fields.origin is None else b""
        lines += (name, b": ", value, b"\r\n")
    elif code == _REDIRECT:
        fields.redirects = True
        lines += (name, b": ", value, b"\r\n")
    elif code == _ALLOW_ORIGIN:
        fields.allows_origin = True
        lines += (name, b": ", value, b"\r\n")


def _only_traceparent(given: bytes | None, value: bytes) -> bytes:
    """Empty for one that cannot be used, and for a second one."""
    return value if given is None and _TRACEPARENT_FORM.fullmatch(value) else b""


def _apply_connection(fields: Fields, tokens: Sequence[bytes], lines: list[bytes], special: dict[bytes, int]) -> None:
    """Connection's options, and away with the fields it names. Those that frame the message or that the gateway reads
    itself cannot be named away: a client could otherwise strip what later hops rely on."""
    named = set(tokens)
    fields.close = b"close" in named
    fields.keep_alive = b"keep-alive" in named
    fields.upgrade_listed = b"upgrade" in named
    named = {name for name in named if name and name not in special}
    if not named or named <= {b"close", b"keep-alive"}:
        return
    kept: list[bytes] = []
    for at in range(0, len(lines), 4):
        if lines[at].lower() not in named:
            kept += lines[at : at + 4]
    lines[:] = kept

"""Finished exchanges as spans of OTLP, in protobuf.

A SERVER span for each exchange, and below it a CLIENT span for each attempt; for a request of the gateway's own an
INTERNAL span in place of the first, with a link to the span of the exchange that it comes of. Attributes are those of
the stable semantic conventions for HTTP (https://opentelemetry.io/docs/specs/semconv/http/http-spans/), and `gateway.*`
for what they have no word for. What policies have decided are events of the first span.

An encoded message is its fields one after the other, so that two of them with different fields, put together, are one
message with the fields of both. What many spans have in common is therefore encoded once, and only what is a span's own
each time; all of it by the official messages.

Never in a span: query strings, header fields, bodies, and what looks like a key or a token in a path.
"""

from binascii import unhexlify
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from gateway.telemetry.metrics.route_cells import METHODS
from gateway.telemetry.tracing.trace import SUPERSEDED, AttemptTrace
from gateway.telemetry.tracing.tracer import OWN, FinishedExchange

if TYPE_CHECKING:
    from google.protobuf.internal.containers import RepeatedCompositeFieldContainer

_SCOPE: Final = "gateway"
# https://github.com/open-telemetry/opentelemetry-proto: bits 8 and 9 of `flags` say whether the parent is of another
# process, and whether that is known.
_REMOTE_IS_KNOWN: Final = 0x100
_REMOTE: Final = 0x200
_LONGEST: Final = 1024
# The type of a field that is a message (https://protobuf.dev/programming-guides/encoding/).
_LENGTH_DELIMITED: Final = 2
_BYTE: Final = tuple(bytes([value]) for value in range(0x80))
_CLIENT_CLOSED: Final = 499
_KNOWN: Final = 1024
_LATE: Final = frozenset({"fallback", "hedge", "response", "retry", "truncated", "tunnel"})
"""Decisions that are made at the end of an exchange; all others are made before the first attempt."""

Value = str | int | bool


class SpanEncoder:
    """`resource` are the attributes of this process; `schemes` those of the upstreams, by name."""

    def __init__(self, resource: Mapping[str, Value], schemes: Mapping[str, str], version: str) -> None:
        self._schemes = schemes
        about = Resource()
        for name, value in resource.items():
            _add(about.attributes, name, value)
        self._resource = ResourceSpans(resource=about).SerializeToString()
        self._scope = ScopeSpans(scope=InstrumentationScope(name=_SCOPE, version=version)).SerializeToString()

    def request(self, spans: Iterable[bytes]) -> bytes:
        """An `ExportTraceServiceRequest` with what `encode` has made."""
        of_scope = b"".join((self._scope, *spans))
        of_resource = self._resource + _field(ResourceSpans.SCOPE_SPANS_FIELD_NUMBER, of_scope)
        return _field(ExportTraceServiceRequest.RESOURCE_SPANS_FIELD_NUMBER, of_resource)

    def encode(self, each: FinishedExchange) -> bytes:
        """The spans of an exchange."""
        trace_id = unhexlify(each.trace.trace_id)
        made = _field(ScopeSpans.SPANS_FIELD_NUMBER, self._exchange(each, trace_id))
        for index, attempt in enumerate(each.trace.attempts):
            made += _field(ScopeSpans.SPANS_FIELD_NUMBER, self._attempt(each, attempt, index, trace_id))
        return made

    def _exchange(self, each: FinishedExchange, trace_id: bytes) -> bytes:
        trace, account, part = each.trace, each.account, each.log_part
        if each.kind == OWN:
            shared = _own(each.method, account.service, each.reason, each.kept)
        else:
            asked = part.scheme, part.authority, part.minor
            said = each.status, each.reason, each.kept
            known = part.known
            shared = (
                _server(each.method, account.prefix, account.name, account.service, *asked, *said)
                + _asked(str(known.get("target") or "")[:_LONGEST], str(known.get("client") or ""))
                + _sizes(each.bytes_in, each.bytes_out)
            )
        start = each.wall - int(each.seconds * 1e9)
        flags = trace.flags | _REMOTE_IS_KNOWN | (_REMOTE if trace.parent_id else 0)
        span = _span(each, trace_id, trace.span_id, trace.parent_id, flags, start, each.wall)
        if trace.link:
            _link(span, trace.link)
        if each.request_id != trace.trace_id:
            _add(span.attributes, "gateway.request_id", each.request_id.decode())
        if each.correlation_id != each.request_id:
            _add(span.attributes, "gateway.correlation_id", each.correlation_id.decode())
        return span.SerializeToString() + shared + _events(each, start)

    def _attempt(self, each: FinishedExchange, attempt: AttemptTrace, index: int, trace_id: bytes) -> bytes:
        scheme = self._schemes.get(attempt.upstream, "http")
        status = _status_of(each, attempt)
        error = attempt.reason if attempt.reason != "upstream_status" else ""
        if not error and not status:
            error = each.reason or "cancelled"
        trace = each.trace
        start, end = _instant(each, attempt.began), _instant(each, attempt.ended or each.ended)
        flags = trace.flags | _REMOTE_IS_KNOWN
        return (
            _span(each, trace_id, attempt.span_id, trace.span_id, flags, start, end).SerializeToString()
            + _client(
                *(each.method, scheme, attempt.endpoint, attempt.upstream, status, error, index),
                *(attempt.probe, attempt.hedge),
            )
            + _url(scheme, attempt.endpoint, attempt.head[:_LONGEST])
        )


# What many spans have in common, made once.


@lru_cache(maxsize=_KNOWN)
def _server(
    method: str,
    prefix: str,
    route: str,
    upstream: str,
    scheme: str,
    authority: bytes,
    minor: int,
    status: int,
    reason: str,
    kept: str,
) -> bytes:
    span = Span(kind=Span.SPAN_KIND_SERVER, name=f"{_word(method)} {prefix}".rstrip())
    attributes = span.attributes
    host, port = _address(authority.decode("latin-1"))
    _method(attributes, method)
    _add(attributes, "url.scheme", scheme)
    _add(attributes, "server.address", host)
    _add(attributes, "server.port", port)
    _add(attributes, "network.protocol.version", f"1.{minor}")
    _add(attributes, "http.route", prefix)
    _add(attributes, "http.response.status_code", status)
    _add(attributes, "gateway.route", route)
    _add(attributes, "gateway.upstream", upstream)
    _add(attributes, "gateway.reason", reason)
    _add(attributes, "gateway.kept", kept)
    if status >= 500 or (reason and reason != "client_closed" and status < 400):
        # A 4xx is the client's fault, and who leaves makes no mistake either.
        _failed(span, reason or str(status))
    return span.SerializeToString()


@lru_cache(maxsize=_KNOWN)
def _own(method: str, upstream: str, reason: str, kept: str) -> bytes:
    span = Span(kind=Span.SPAN_KIND_INTERNAL, name=f"{_word(method)} {upstream}")
    _add(span.attributes, "gateway.upstream", upstream)
    _add(span.attributes, "gateway.reason", reason)
    _add(span.attributes, "gateway.kept", kept)
    if reason:
        _failed(span, reason)
    return span.SerializeToString()


@lru_cache(maxsize=_KNOWN)
def _client(
    method: str,
    scheme: str,
    endpoint: str,
    upstream: str,
    status: int,
    error: str,
    index: int,
    probe: bool,
    hedge: bool,
) -> bytes:
    span = Span(kind=Span.SPAN_KIND_CLIENT, name=_word(method))
    attributes = span.attributes
    host, port = _address(endpoint)
    _method(attributes, method)
    _add(attributes, "url.scheme", scheme)
    _add(attributes, "server.address", host)
    _add(attributes, "server.port", port)
    _add(attributes, "network.protocol.version", "1.1")
    _add(attributes, "gateway.upstream", upstream)
    _add(attributes, "http.response.status_code", status)
    _add(attributes, "http.request.resend_count", index)
    _add(attributes, "gateway.circuit.probe", probe)
    _add(attributes, "gateway.hedge", hedge)
    if error in {"client_closed", SUPERSEDED}:
        _add(attributes, "error.type", error)
    elif error or status >= 400:
        _failed(span, error or str(status))
    return span.SerializeToString()


@lru_cache(maxsize=_KNOWN)
def _asked(target: str, client: str) -> bytes:
    span = Span()
    _add(span.attributes, "url.path", target.partition("?")[0])
    _add(span.attributes, "client.address", client)
    return span.SerializeToString()


@lru_cache(maxsize=_KNOWN)
def _sizes(bytes_in: int, bytes_out: int) -> bytes:
    span = Span()
    _add(span.attributes, "http.request.body.size", bytes_in)
    _add(span.attributes, "http.response.body.size", bytes_out)
    return span.SerializeToString()


@lru_cache(maxsize=_KNOWN)
def _url(scheme: str, endpoint: str, path: bytes) -> bytes:
    span = Span()
    _add(span.attributes, "url.full", f"{scheme}://{endpoint}{path.decode('latin-1')}")
    return span.SerializeToString()


@lru_cache(maxsize=_KNOWN)
def _told(name: str, key: str, value: str) -> bytes:
    event = Span.Event(name=name)
    _add(event.attributes, key, value)
    return event.SerializeToString()


def _failed(span: Span, error: str) -> None:
    _add(span.attributes, "error.type", error)
    span.status.code = Status.STATUS_CODE_ERROR


def _word(method: str) -> str:
    return method if method in METHODS else "HTTP"


def _status_of(each: FinishedExchange, attempt: AttemptTrace) -> int:
    """What the upstream has answered; 0 for nothing. An answer that went on to the client has the exchange's."""
    if attempt.status or not attempt.answered or attempt is not each.trace.present:
        return attempt.status
    return each.status if each.status != _CLIENT_CLOSED else 0


def _span(
    each: FinishedExchange, trace_id: bytes, span_id: bytes, parent_id: bytes, flags: int, start: int, end: int
) -> Span:
    """What is a span's own."""
    return Span(
        trace_id=trace_id,
        span_id=unhexlify(span_id),
        parent_span_id=unhexlify(parent_id),
        trace_state=each.trace.state.decode("latin-1"),
        flags=flags,
        start_time_unix_nano=start,
        end_time_unix_nano=end,
    )


def _link(span: Span, traceparent: bytes) -> None:
    """To a span that is no parent (https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/): who has
    sent a message is answered long before it is delivered."""
    flags = int(traceparent[53:55], 16) | _REMOTE_IS_KNOWN | _REMOTE
    span.links.add(trace_id=unhexlify(traceparent[3:35]), span_id=unhexlify(traceparent[36:52]), flags=flags)


def _events(each: FinishedExchange, start: int) -> bytes:
    """What the policies have decided, each where its time is known: at the beginning, after an attempt, at the end."""
    made = b""
    for policy, decision in each.decisions.items():
        if policy not in _LATE:
            made += _event(start, f"gateway.{policy}", "gateway.decision", decision)
    for attempt, following in pairwise(each.trace.attempts):
        if following.hedge:
            made += _event(_instant(each, following.began), "gateway.hedged", "gateway.endpoint", following.endpoint)
            continue
        why = attempt.reason if attempt.reason not in {"", "upstream_status"} else str(attempt.status)
        made += _event(_instant(each, attempt.ended or each.ended), "gateway.retry", "gateway.reason", why)
    for policy, decision in each.decisions.items():
        if policy in _LATE:
            made += _event(each.wall, f"gateway.{policy}", "gateway.decision", decision)
    if each.reason and each.status >= 400 and each.reason != "client_closed":
        made += _event(each.wall, "gateway.refused", "gateway.reason", each.reason)
    return made


def _event(at: int, name: str, key: str, value: str) -> bytes:
    event = Span.Event(time_unix_nano=at).SerializeToString() + _told(name, key, value)
    return _field(Span.EVENTS_FIELD_NUMBER, event)


def _instant(each: FinishedExchange, at: float) -> int:
    """An instant of the monotonic clock in nanoseconds since the epoch."""
    return each.wall - int((each.ended - at) * 1e9)


def _method(attributes: "RepeatedCompositeFieldContainer[KeyValue]", method: str) -> None:
    if method in METHODS:
        _add(attributes, "http.request.method", method)
    else:
        _add(attributes, "http.request.method", "_OTHER")
        _add(attributes, "http.request.method_original", method)


def _address(authority: str) -> tuple[str, int]:
    """Host and port; 0 where none is given."""
    host, colon, port = authority.rpartition(":")
    if not colon or not port.isdigit():
        host, port = authority, "0"
    return host.strip("[]"), int(port)


def _add(attributes: "RepeatedCompositeFieldContainer[KeyValue]", name: str, value: Value) -> None:
    """Empty texts and zeros say nothing, and are left out."""
    if not value:
        return
    added: KeyValue = attributes.add()
    added.key = name
    if isinstance(value, str):
        added.value.string_value = value[:_LONGEST]
    elif isinstance(value, bool):
        added.value.bool_value = value
    else:
        added.value.int_value = value


def _field(number: int, message: bytes) -> bytes:
    """A message as a field of another one: tag and length as varints, then the message."""
    size = len(message)
    length = _BYTE[size] if size < 0x80 else _varint(size)
    return _BYTE[number << 3 | _LENGTH_DELIMITED] + length + message


def _varint(value: int) -> bytes:
    """Seven bits in each byte, the lowest first; the highest bit says that more follow."""
    made = bytearray()
    while value >= 0x80:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    made.append(value)
    return bytes(made)

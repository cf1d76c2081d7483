"""What follows from a request's head alone: made once for each head, used for every request that repeats it.

A plan is a pure function of the head's bytes, the peer and the configuration. Connections hand in the same `Request`
object for the same bytes (gateway.wire.server_connection), and the plan stays with it.
"""

from gateway.policy.retry import IDEMPOTENT_METHODS
from gateway.proxy.identity import Identification, Origin
from gateway.proxy.refusal import Refusal
from gateway.proxy.upstreams import Route
from gateway.telemetry.access_log import AccessLog, Known
from gateway.wire.request import Request, RequestError

_NOT_FOUND = Refusal(404, "not_found", "no route matches this host and path")


class Plan:
    """`head` is the request head for the upstream up to the ids, `objection` what speaks against the request whatever
    the state of the gateway. `tunnel` says that it asks for a WebSocket where the route has them; with one or the other
    the request is `unusual`. `known` is for the access log, once it has been asked for.
    """

    __slots__ = (
        "client",
        "head",
        "idempotent",
        "known",
        "method",
        "objection",
        "origin",
        "route",
        "target",
        "tunnel",
        "unusual",
    )

    def __init__(self, request: Request, route: Route, origin: Origin, objection: Refusal | None) -> None:
        self.route = route
        self.origin = origin
        self.client = origin.client
        self.objection = objection
        self.target = request.target.decode("utf-8", "backslashreplace")
        self.idempotent = request.method in IDEMPOTENT_METHODS or request.fields.idempotency_key is not None
        self.method = request.method
        self.known: Known | bytes | None = None
        self.tunnel = False
        self.head = b""
        if objection is None:
            self.tunnel = request.fields.upgrade is not None and route.config.websocket and request.wants_websocket
            self.head = self._upstream_head(request)
        self.unusual = objection is not None or self.tunnel

    def know(self, log: AccessLog) -> Known | bytes:
        """Make the part of the log line that follows from the head."""
        route = self.route
        known = self.known = log.prepare(
            {
                "client": self.client,
                "method": self.method,
                "target": self.target,
                "route": route.name or None,
                "upstream": route.service or None,
            }
        )
        return known

    def _upstream_head(self, request: Request) -> bytes:
        """End-to-end fields as they came, and what a proxy adds (RFC 9110 section 7.6)."""
        route = self.route
        origin = self.origin
        extra = b""
        if request.fields.chunked:
            extra = b"Transfer-Encoding: chunked\r\n"
        elif self.tunnel:
            extra = b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
        if request.fields.traceparent is not None and request.fields.tracestate:
            # Without a trace that it belongs to, tracestate means nothing (W3C Trace Context section 3.5).
            extra += b"tracestate: %b\r\n" % b",".join(request.fields.tracestate)
        host = origin.host or request.authority
        if host:
            extra += b"X-Forwarded-Host: %b\r\n" % host
        return b"%b %b HTTP/1.1\r\nHost: %b\r\n%b%b%b" % (
            request.method.encode(),
            route.forward_path(request.path),
            (route.preserve_host and request.authority) or route.upstream.authority,
            request.fields.lines,
            extra,
            origin.lines,
        )


def objection(route: Route | None, request: Request, identification: Identification, via_name: str) -> Refusal | None:
    """What speaks against a request from its head alone."""
    if route is None:
        return _NOT_FOUND
    if route.methods is not None and request.method not in route.methods:
        allow = f"Allow: {route.allow}\r\n".encode()
        return Refusal(405, "method_not_allowed", f"the route {route.name} takes {route.allow}", extra=allow)
    fields = request.fields
    limit = route.max_body_bytes
    if limit is not None and fields.length is not None and fields.length > limit:
        error = body_too_large(limit)
        return Refusal(error.status, error.reason, error.detail)
    if fields.via and identification.is_loop(fields.via):
        return Refusal(508, "loop_detected", f"the request has already passed {via_name}")
    return None


def body_too_large(limit: int) -> RequestError:
    return RequestError(413, "body_too_large", f"the request body is larger than {limit} bytes")

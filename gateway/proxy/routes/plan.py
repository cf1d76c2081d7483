"""What follows from a request's head alone: made once for each head, used for every request that repeats it.

A plan is a pure function of the head's bytes, the peer and the configuration. Connections hand in the same `Request`
object for the same bytes (gateway.wire.server.connection), and the plan stays with it.
"""

from functools import lru_cache
from typing import Final

from gateway.idempotency.keys import parse_key
from gateway.identity.masking import masked
from gateway.policy.priority import PRIORITIES
from gateway.policy.retry import IDEMPOTENT_METHODS
from gateway.proxy.answers.own_answer import (
    OPTIONS_OF_THE_GATEWAY,
    OwnAnswer,
    forwards_left,
    is_about_the_gateway,
    last_stop,
    with_forwards,
)
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.destinations.hedging import may_be_hedged
from gateway.proxy.requests.dots import has_dot_segment
from gateway.proxy.requests.hooked import Hooked
from gateway.proxy.requests.identity import Identification, Origin
from gateway.proxy.routes.topology import Route
from gateway.proxy.upstreams.upstream import Upstream
from gateway.syntax import hosts
from gateway.telemetry.record import LogPart
from gateway.wire.message.request import Request, RequestError

_NOT_FOUND: Final = Refusal(404, "not_found", "no route matches this host and path")
_DOTS: Final = Refusal(400, "bad_request", "the path has a dot segment or a NUL byte, and the route takes none")
_FORWARDS: Final = Refusal(400, "bad_request", "Max-Forwards is not one number")


class Plan:
    """`generation` is that of the topology that it was made for. `head` is the request head for the upstream up to the
    ids, `objection` what speaks against the request whatever the state of the gateway, `own_answer` what the gateway
    answers itself although nothing speaks against it. `tunnel` says that it asks for a WebSocket where the route has
    them; with one of these the request is `unusual`. `idempotent`: it may be sent again. `keyed`: it has a key, for
    which an upstream that honours it does nothing twice. `keeps_body`: what is sent of its body is kept,
    because it may be sent again, here or elsewhere. `log_part` is what the log lines of such requests have in common.
    `priority` is the class of the request (`gateway.policy.priority`), before it is known whose it is. `mirrored`: a
    copy of it may go to the shadow of its route. `hedged`: it may be sent a second time beside the first.
    """

    __slots__ = (
        "_heads",
        "generation",
        "head",
        "hedged",
        "idempotent",
        "keeps_body",
        "keyed",
        "log_part",
        "mirrored",
        "objection",
        "origin",
        "own_answer",
        "priority",
        "route",
        "tunnel",
        "unusual",
    )

    def __init__(
        self, request: Request, route: Route, origin: Origin, objection: Refusal | None, generation: int = 0
    ) -> None:
        self.generation = generation
        self.route = route
        self.origin = origin
        self.objection = objection
        self.idempotent = request.method in IDEMPOTENT_METHODS
        header = route.priority_header
        self.priority = route.priority if header is None else header.lowered(route.priority, request.fields.lines)
        self.log_part = LogPart(
            {
                "client": origin.client,
                "method": request.method,
                "target": masked(request.target).decode("utf-8", "backslashreplace"),
                "route": route.name or None,
                "upstream": (route.service or None) if route.split is None else None,
                "priority": PRIORITIES[self.priority] if route.priorities else None,
            },
            *(origin.scheme, request.authority or b"", request.minor),
        )
        self.tunnel = False
        self.mirrored = False
        self.hedged = False
        self.head = b""
        self.keyed = False
        self._heads: dict[str, bytes] | None = None
        self.own_answer: OwnAnswer | None = None
        if objection is None:
            self.own_answer = own_answer(request, route)
        if objection is None and self.own_answer is None:
            self.tunnel = request.fields.upgrade is not None and route.config.websocket and request.wants_websocket
            self.head = self._upstream_head(request, route.upstream)
            key = request.fields.idempotency_key
            # An upstream that honours keys cannot tell by one that is malformed or empty whether it has acted.
            self.keyed = key is not None and parse_key(key) is not None
            self.idempotent = self.may_be_repeated(request, route.upstream)
            # What is kept for its key is one answer to one request.
            self.hedged = bool(route.hedges) and may_be_hedged(request) and (key is None or route.keeping is None)
            self.mirrored = route.mirror is not None and not self.tunnel and route.mirror.takes(request)
        self.keeps_body = self.idempotent or (route.fallback is not None and bool(route.fallback.hops))
        if route.split is not None and not self.keeps_body:
            self.keeps_body = any(self.may_be_repeated(request, each) for each in route.split.upstreams)
        self.unusual = objection is not None or self.own_answer is not None or self.tunnel

    def may_be_repeated(self, request: Request, upstream: Upstream) -> bool:
        """Whether this upstream may get the request again although it may have acted on it."""
        if request.method in IDEMPOTENT_METHODS or upstream.retry.non_idempotent:
            return True
        return self.keyed and upstream.config.honours_idempotency_key

    def head_for(self, request: Request, upstream: Upstream) -> bytes:
        """`head`, for any upstream that the route leads to. Made once for each."""
        if upstream is self.route.upstream:
            return self.head
        heads = self._heads
        if heads is None:
            heads = self._heads = {}
        head = heads.get(upstream.name)
        if head is None:
            head = heads[upstream.name] = self._upstream_head(request, upstream)
        return head

    def head_to(self, request: Request, upstream: Upstream, hooked: Hooked | None) -> bytes:
        """`head_for`, with what hooks have changed."""
        if hooked is None or not hooked.changed:
            return self.head_for(request, upstream)
        return self._upstream_head(request, upstream, hooked)

    def _upstream_head(self, request: Request, upstream: Upstream, hooked: Hooked | None = None) -> bytes:
        """End-to-end fields as they came, and what a proxy adds (RFC 9110 section 7.6)."""
        path = request.path if hooked is None else hooked.path
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
            port = origin.port or port_of(host, origin.scheme)
            extra += b"".join((b"X-Forwarded-Host: ", host, b"\r\nX-Forwarded-Port: ", port, b"\r\n"))
        # Of a path that is rewritten nobody can say what was taken off.
        stripped = route.stripped if route.rewritten(path) is None else b""
        prefix = origin.prefix.rstrip(b"/") + stripped
        if prefix:
            extra += b"X-Forwarded-Prefix: %b\r\n" % prefix
        lines = request.fields.lines
        left = forwards_left(request) if request.fields.max_forwards is not None else None
        if route.withheld is not None:
            lines = route.withheld.without(lines)
        if route.mirror is not None:
            lines = route.mirror.unmarked(lines)
        if route.request_edits is not None:
            lines = route.request_edits.applied(lines)
        if hooked is not None:
            lines = hooked.applied(lines)
        if upstream.request_edits is not None:
            lines = upstream.request_edits.applied(lines)
        if left:
            lines = with_forwards(lines, left - 1)
        return b"".join(
            (
                request.method.encode(),
                b" ",
                route.forward_path(path, upstream),
                b" HTTP/1.1\r\nHost: ",
                (route.preserve_host and request.authority) or upstream.authority,
                b"\r\n",
                lines,
                extra,
                origin.lines(request.minor),
            )
        )


def objection(route: Route | None, request: Request, identification: Identification, via_name: str) -> Refusal | None:
    """What speaks against a request from its head alone."""
    if is_about_the_gateway(request):
        return None
    if route is None:
        return _NOT_FOUND
    if route.config.path_dots == "refuse" and has_dot_segment(request.path):
        return _DOTS
    if route.cors is not None and route.cors.preflight(request) is not None:
        return None
    if route.methods is not None and request.method not in route.methods:
        allow = f"Allow: {route.allow}\r\n".encode()
        return Refusal(405, "method_not_allowed", f"the route {route.name} takes {route.allow}", extra=allow)
    fields = request.fields
    if fields.max_forwards is not None:
        try:
            forwards_left(request)
        except ValueError:
            return _FORWARDS
    limit = route.max_body_bytes
    if limit is not None and fields.length is not None and fields.length > limit:
        error = body_too_large(limit)
        return Refusal(error.status, error.reason, error.detail)
    if fields.via and identification.is_loop(fields.via):
        return Refusal(508, "loop_detected", f"the request has already passed {via_name}")
    return None


def own_answer(request: Request, route: Route) -> OwnAnswer | None:
    """What the gateway answers itself: what is about it, a preflight, and what may go no further. Nothing speaks
    against the request."""
    if is_about_the_gateway(request):
        return OPTIONS_OF_THE_GATEWAY
    if route.cors is not None:
        answer = route.cors.preflight(request)
        if answer is not None:
            return answer
    if request.fields.max_forwards is not None and forwards_left(request) == 0:
        return last_stop(request, route.allow)
    return None


def port_of(authority: bytes, scheme: str) -> bytes:
    """The port that a client has used who asked for `authority`, or for the first of several."""
    return _port_of(authority[: hosts.LONGEST_AUTHORITY + 1], scheme)


@lru_cache(maxsize=1024)
def _port_of(authorities: bytes, scheme: str) -> bytes:
    found = hosts.with_port(authorities.partition(b",")[0].strip(b" \t").decode("latin-1"), scheme)
    return b"%d" % (found[1] if found is not None else hosts.DEFAULT_PORTS[scheme])


def body_too_large(limit: int) -> RequestError:
    """The refusal of a body of more than `limit` bytes."""
    return RequestError(413, "body_too_large", f"the request body is larger than {limit} bytes")

"""Requests of the gateway's own, for those who run beside the path of a request: workflows, the outbox.

They have no route and no client: no limit for clients is asked, and they are not in the access log. What protects the
upstream holds for them as for any request (`gateway.proxy.errands.errand`).
"""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

from gateway.proxy.answers.refusals import STOPPING
from gateway.proxy.errands.errand import Answered, Errand, Outcomes, Unanswered
from gateway.proxy.forward.target import Target
from gateway.proxy.gate import Chain
from gateway.proxy.recorder import ORIGIN_LINE
from gateway.proxy.requests.identity import Origin
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.proxy.upstreams.upstream import Upstream
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import LogPart, RouteAccount
from gateway.wire.message.request import Limits, Request, check, parse_fields, parse_request_line

_ORIGIN: Final = Origin("", b"", "http")
_LOG_PART: Final = LogPart({})
_LIMITS: Final = Limits(header_bytes=1 << 20, header_count=1000)


class OwnRequest(NamedTuple):
    """`target` is the path and query for the upstream, below its `base_path`. `lines` are complete header lines but for
    Host, Content-Length and the ids. At most `keep` bytes of the answer's body are kept. `timeout` in seconds bounds
    all of it, beside the time limits of the upstream. `correlation_id` is safe in a field, and the same for all that
    belongs together. `origin` is a `traceparent` that names the span of the exchange which has led to it, empty for
    none: the request has a trace of its own, with a link there."""

    method: str
    target: bytes
    lines: bytes
    body: bytes
    correlation_id: bytes
    timeout: float
    keep: int
    origin: bytes = b""


def origin_of(lines: bytes) -> tuple[bytes, bytes]:
    """What `Recorder.origin` has put in front of header lines, empty for nothing, and the lines without it."""
    prefix, _, end = ORIGIN_LINE.partition(b"%b")
    if not lines.startswith(prefix):
        return b"", lines
    origin, _, rest = lines[len(prefix) :].partition(end)
    return origin, rest


class OwnRequests:
    """Sends them. `upstreams` are those that there are, `chains` the gates of each, by name."""

    def __init__(self, runtime: Runtime, upstreams: Mapping[str, Upstream], chains: Mapping[str, Chain]) -> None:
        self._runtime = runtime
        self.upstreams = upstreams
        self._chains = chains
        self._accounts = {name: RouteAccount("", name, RouteCells()) for name in upstreams}

    async def send(self, upstream: str, request: OwnRequest) -> Outcomes:
        """Send it to the upstream of this name, and wait for what comes of it. When this is cancelled the request is
        broken off. Raises RequestError for a target or lines that no request may have."""
        runtime = self._runtime
        if runtime.stopping:
            return Unanswered(STOPPING.reason, STOPPING.detail, STOPPING.retry_after, sent=False)
        own_id = runtime.ids.new()
        ticket = Ticket(parsed(request), _ORIGIN, self._accounts[upstream], _LOG_PART, own_id, time.monotonic())
        ticket.correlation_id = request.correlation_id
        if runtime.traces.exported:
            ticket.trace = runtime.traces.begin(own_id, None, [])
            ticket.trace.link = request.origin
        to = self.upstreams[upstream]
        target = Target(to, self._head(to, request, ticket))
        outcome: asyncio.Future[Outcomes] = runtime.loop.create_future()
        done = partial(_came, outcome)
        errand = Errand(runtime, ticket, target, self._chains[upstream], request.body, request.keep, done)
        runtime.exchanges += 1
        came: Outcomes | None = None
        try:
            errand.start()
            async with asyncio.timeout(request.timeout):
                came = await outcome
        except TimeoutError:
            # It may have come in the same turn of the loop, just before.
            if outcome.done() and not outcome.cancelled():
                came = outcome.result()
            else:
                came = Unanswered("upstream_timeout", f"no answer within {request.timeout:g} s", None, ticket.sent)
        finally:
            runtime.exchanges -= 1
            errand.break_off()
            status = came.status if isinstance(came, Answered) else 0
            reason = came.reason if isinstance(came, Unanswered) else "" if status else "draining"
            runtime.recorder.own_request_over(ticket, status, reason, time.monotonic())
        return came

    def _head(self, upstream: Upstream, request: OwnRequest, ticket: Ticket) -> bytes:
        traces, trace = self._runtime.traces, ticket.trace
        edits = upstream.request_edits
        return (
            b"%b %b%b HTTP/1.1\r\nHost: %b\r\n%b%bX-Request-ID: %b\r\nX-Correlation-ID: %b\r\ntraceparent: %b\r\n\r\n"
        ) % (
            request.method.encode(),
            upstream.base_path,
            request.target,
            upstream.authority,
            request.lines if edits is None else edits.applied(request.lines),
            _length(request),
            ticket.own_id,
            request.correlation_id,
            traces.traceparent(ticket.own_id) if trace is None else trace.traceparent,
        )


def parsed(request: OwnRequest) -> Request:
    """As if a client had sent it. Raises RequestError for a target or lines that no request may have."""
    method, target, minor = parse_request_line(b"%b %b HTTP/1.1" % (request.method.encode(), request.target))
    fields = parse_fields(b"Host: gateway\r\n" + request.lines + _length(request) + b"\r\n", _LIMITS)
    made = Request(method, target, minor, fields)
    check(made)
    return made


def _came(outcome: "asyncio.Future[Outcomes]", came: Outcomes) -> None:
    """In the same turn of the loop as its timeout, or when nobody waits any more: the future is cancelled then, and
    `send` has not broken it off yet."""
    if not outcome.done():
        outcome.set_result(came)


def _length(request: OwnRequest) -> bytes:
    if request.body or request.method in {"POST", "PUT", "PATCH"}:
        return b"Content-Length: %d\r\n" % len(request.body)
    return b""

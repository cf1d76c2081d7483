"""The forwarder for a request that may be sent."""

from gateway.proxy.forward.downstream import Downstream
from gateway.proxy.forward.falling_back import FallbackForward
from gateway.proxy.forward.retries import Forward
from gateway.proxy.forward.target import Target
from gateway.proxy.plan import Plan
from gateway.proxy.request_body import RequestBody
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket


def forward_of(runtime: Runtime, ticket: Ticket, plan: Plan, body: RequestBody, downstream: Downstream) -> Forward:
    """It is to begin, or to be told that a gate has refused the request. HOT."""
    route, fields = plan.route, ticket.request.fields
    traces, given = runtime.traces, fields.traceparent
    if runtime.watched or fields.debug is not None or (traces.exported and traces.samples(ticket.own_id, given)):
        trace = ticket.trace = traces.begin(ticket.own_id, given, fields.tracestate)
        traceparent = trace.traceparent
    elif traces.exported:
        traceparent = traces.unsampled(ticket.own_id, given)
    else:
        traceparent = given or traces.traceparent(ticket.own_id)
    head = b"%b%bX-Request-ID: %b\r\nX-Correlation-ID: %b\r\ntraceparent: %b\r\n\r\n" % (
        plan.head,
        ticket.caller_lines,
        ticket.request_id,
        ticket.correlation_id,
        traceparent,
    )
    target = Target(route.upstream, head)
    fallback = route.fallback
    if fallback is not None:
        return FallbackForward(runtime, ticket, target, body, downstream, route.chain, plan, fallback)
    return Forward(runtime, ticket, target, body, downstream, route.chain, idempotent=plan.idempotent)

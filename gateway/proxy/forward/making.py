"""The forwarder for a request that may be sent."""

from gateway.proxy.forward.downstream import Downstream
from gateway.proxy.forward.falling_back import FallbackForward
from gateway.proxy.forward.hedging import HedgingForward
from gateway.proxy.forward.hooked import HookedDownstream
from gateway.proxy.forward.retries import Forward
from gateway.proxy.forward.target import Target
from gateway.proxy.requests.body import RequestBody
from gateway.proxy.routes.plan import Plan
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket


def tail_of(runtime: Runtime, ticket: Ticket) -> bytes:
    """The end of a request's head, behind what its plan has of it: who sends it, its ids, and the trace. HOT."""
    fields = ticket.request.fields
    traces, given, trace = runtime.traces, fields.traceparent, ticket.trace
    if trace is not None:
        traceparent = trace.traceparent
    elif runtime.watched or fields.debug is not None or (traces.exported and traces.samples(ticket.own_id, given)):
        trace = ticket.trace = traces.begin(ticket.own_id, given, fields.tracestate)
        traceparent = trace.traceparent
    elif traces.exported:
        traceparent = traces.unsampled(ticket.own_id, given)
    else:
        traceparent = given or traces.traceparent(ticket.own_id)
    return b"".join(
        (
            ticket.caller_lines,
            b"X-Request-ID: ",
            ticket.request_id,
            b"\r\nX-Correlation-ID: ",
            ticket.correlation_id,
            b"\r\ntraceparent: ",
            traceparent,
            b"\r\n\r\n",
        )
    )


def forward_of(runtime: Runtime, ticket: Ticket, plan: Plan, body: RequestBody, downstream: Downstream) -> Forward:
    """It is to begin, or to be told that a gate has refused the request. HOT."""
    route = plan.route
    tail = tail_of(runtime, ticket)
    fallback, split, hooked = route.fallback, route.split, ticket.hooked
    if split is None:
        target, idempotent = Target(route.upstream, plan.head + tail), plan.idempotent
    else:
        chosen = split.upstreams[ticket.variant]
        target = Target(chosen, plan.head_for(ticket.request, chosen) + tail)
        idempotent = plan.may_be_repeated(ticket.request, chosen)
    if hooked is not None:
        if hooked.changed:
            target.head = plan.head_to(ticket.request, target.upstream, hooked) + tail
        if route.hooks is not None and route.hooks.responding:
            downstream = HookedDownstream(downstream, ticket, route.hooks)
    if fallback is None:
        if not plan.hedged:
            return Forward(runtime, ticket, target, body, downstream, route.chain, idempotent=idempotent)
        hedging = route.hedges[max(ticket.variant, 0)]
        return HedgingForward(runtime, ticket, target, body, downstream, route.chain, hedging, idempotent=idempotent)
    hops = fallback.hops if split is None else split.hops[ticket.variant]
    return FallbackForward(
        *(runtime, ticket, target, body, downstream, route.chain, plan, fallback, hops, tail),
        route.hedges[max(ticket.variant, 0)] if plan.hedged else None,
        idempotent=idempotent,
    )

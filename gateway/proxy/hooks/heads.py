"""What hooks are shown of requests and answers."""

from gateway.hooks import Fields, RequestHead, ResponseHead
from gateway.proxy.requests.hooked import Hooked
from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response


def request_head(ticket: Ticket) -> RequestHead:
    """The request as its client has sent it. HOT."""
    request = ticket.request
    caller = ticket.caller
    path, _, query = request.path.decode("latin-1").partition("?")
    consumer = tenant = tier = ""
    scopes: frozenset[str] = frozenset()
    if caller is not None:
        consumer, tenant, scopes = caller.consumer, caller.tenant, caller.scopes
        if caller.account is not None:
            tier = caller.account.tier
    return RequestHead(
        request.method,
        path,
        query,
        Fields(lines=request.fields.lines),
        request.authority.decode("latin-1"),
        ticket.origin.scheme,
        ticket.client,
        ticket.account.name,
        ticket.request_id.decode("latin-1"),
        ticket.correlation_id.decode("latin-1"),
        consumer,
        tenant,
        tier,
        scopes,
    )


def changed_head(ticket: Ticket, hooked: Hooked) -> RequestHead:
    """The request as the hooks so far have changed it."""
    path, _, query = hooked.path.decode("latin-1").partition("?")
    fields = Fields(lines=hooked.applied(ticket.request.fields.lines))
    return hooked.head._replace(path=path, query=query, fields=fields)


def response_head(ticket: Ticket, response: Response, request: RequestHead) -> ResponseHead:
    """An answer of the upstream. HOT."""
    fallback = ticket.fallback
    upstream = ticket.account.service if fallback is None else fallback[0]
    return ResponseHead(response.status, Fields(lines=response.fields.lines), upstream, request)

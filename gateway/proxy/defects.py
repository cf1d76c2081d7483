"""Defects of the gateway that stop a request.

Some call on behalf of a request and hear of no exception: a timer, a gate that resumes it, the journal, and a
connection that does not know its exchange yet, or no longer, because the answer is whole. There what is raised is
caught and logged, and the request ends, or goes on without what has failed. Every place that it has is given back then.
The client gets 500. Where an answer has begun, or this one fails, too, its connection closes.

Elsewhere a connection has called. It closes when something is raised, and so ends whatever belongs to it.
"""

import logging
from collections.abc import Callable

from gateway.proxy.ticket import Ticket

log = logging.getLogger("gateway")


def guarded(ticket: Ticket, call: Callable[[], None], failed: Callable[[], None]) -> None:
    """Call `call`, and then `failed` if something was raised that nobody expects."""
    try:
        call()
    except Exception as defect:  # noqa: BLE001 - it is logged with where it was raised
        caught(ticket, defect)
        failed()


def caught(ticket: Ticket, defect: Exception) -> None:
    """Log what was raised at a request."""
    log.error("the gateway has failed at request %s", _id(ticket), exc_info=defect)


def undecided(ticket: Ticket, gate: str) -> None:
    """Log that the gate with this name has not decided before the time of the request was over."""
    log.error("the gateway has failed at request %s: gate %s has not decided", _id(ticket), gate)


def _id(ticket: Ticket) -> str:
    return ticket.request_id.decode("latin-1")

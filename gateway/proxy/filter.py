"""Filters: what a route changes of the answers that go to its clients.

A route has a flat tuple of filters, made when its topology is built (`gateway.proxy.routes.kinds`). A filter may

    fields(ticket, response)   add header lines to an answer
    head(ticket, response)     put another head in the place of an upstream's
    body(ticket, data)         change the pieces of the body of an upstream's answer
    end(ticket)                add to the end of that body

It says with its flags which of these it does, so that a route pays only for what its filters do. Everything is
synchronous. Where a body is rewritten, its length is not known beforehand, and the answer goes out in chunks.
"""

from typing import ClassVar

from mypy_extensions import mypyc_attr

from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response


@mypyc_attr(allow_interpreted_subclasses=True)
class Filter:
    """Changes nothing. A kind of filter overrides what it needs, and raises the flag of it."""

    adds_fields: ClassVar[bool] = False
    """To answers of the upstream."""
    adds_to_refusals: ClassVar[bool] = False
    """Header lines to what the gateway answers itself."""
    changes_head: ClassVar[bool] = False
    rewrites_body: ClassVar[bool] = False

    def fields(self, ticket: Ticket, response: Response | None) -> bytes:
        """Complete header lines, each with its line end. `response` is None where the gateway itself answers. HOT."""
        return b""

    def head(self, ticket: Ticket, response: Response) -> Response:
        """The head in place of `response`, which is shared between answers and must not be changed. HOT."""
        return response

    def body(self, ticket: Ticket, data: bytes) -> bytes:
        """What goes on in place of a piece of the body, which is not empty. May be empty."""
        return data

    def end(self, ticket: Ticket) -> bytes:
        """What follows the last piece."""
        return b""


class Filters:
    """The filters of one route, by what they do."""

    __slots__ = ("bodies", "fields", "heads", "refusals")

    def __init__(self, filters: tuple[Filter, ...]) -> None:
        self.fields = tuple([each for each in filters if each.adds_fields])
        self.refusals = tuple([each for each in filters if each.adds_to_refusals])
        self.heads = tuple([each for each in filters if each.changes_head])
        self.bodies = tuple([each for each in filters if each.rewrites_body])

    def added(self, ticket: Ticket, response: Response) -> bytes:
        """The header lines that are added to an answer of the upstream. HOT."""
        lines = b""
        for each in self.fields:
            lines += each.fields(ticket, response)
        return lines

    def added_to_refusal(self, ticket: Ticket) -> bytes:
        """The header lines that are added to what the gateway answers itself. HOT."""
        lines = b""
        for each in self.refusals:
            lines += each.fields(ticket, None)
        return lines

    def changed(self, ticket: Ticket, response: Response) -> Response:
        """The head that goes out in place of `response`. HOT."""
        for each in self.heads:
            response = each.head(ticket, response)
        return response

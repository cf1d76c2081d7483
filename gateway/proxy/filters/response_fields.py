"""Fields that a route sets, appends or removes in the answers of its upstreams."""

from typing import ClassVar

from gateway.config.sections.headers.model import FieldChanges
from gateway.proxy.field_edits import FieldEdits
from gateway.proxy.filter import Filter
from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response


class ResponseFields(Filter):
    """Answers of the gateway's own stay as they are."""

    changes_head: ClassVar[bool] = True

    def __init__(self, changes: FieldChanges) -> None:
        self._edits = FieldEdits(changes)

    def head(self, ticket: Ticket, response: Response) -> Response:
        """HOT."""
        return response.with_head(self._edits.applied(response.head))

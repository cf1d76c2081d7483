"""Parts with a defect: they raise what nobody expects."""

from typing import ClassVar

from gateway.policy.outcome import Outcome
from gateway.proxy.filter import Filter
from gateway.proxy.gate import PASS, WAIT, Gate, Resume, Verdict
from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response
from tests.support.fake_transport import FakeTransport


class BrokenGate(Gate):
    """Has a defect in one of its methods."""

    holds: ClassVar[bool] = True

    def __init__(self, method: str) -> None:
        self._method = method

    def _called(self, method: str) -> None:
        if method == self._method:
            raise ValueError("a defect")

    def check(self, ticket: Ticket) -> Verdict:
        self._called("check")
        return WAIT if self._method == "start" else PASS

    def enter(self, ticket: Ticket) -> None:
        self._called("enter")

    def start(self, ticket: Ticket, resume: Resume) -> None:
        self._called("start")

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        self._called("leave")


class BrokenHead(Filter):
    """Cannot change a head."""

    changes_head: ClassVar[bool] = True

    def head(self, ticket: Ticket, response: Response) -> Response:
        raise ValueError("a defect")


class BrokenFields(Filter):
    """Cannot add to any answer."""

    adds_fields: ClassVar[bool] = True
    adds_to_refusals: ClassVar[bool] = True

    def fields(self, ticket: Ticket, response: Response | None) -> bytes:
        raise ValueError("a defect")


class BrokenEnd(Filter):
    """Cannot end a body."""

    rewrites_body: ClassVar[bool] = True

    def end(self, ticket: Ticket) -> bytes:
        raise ValueError("a defect")


class BrokenTransport(FakeTransport):
    """Cannot be written to."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raise ValueError("a defect")


class EndlessTransport(FakeTransport):
    """Cannot be aborted."""

    def abort(self) -> None:
        raise ValueError("a defect")

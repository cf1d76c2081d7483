"""Parts with a defect: they raise what nobody expects."""

from typing import ClassVar

from gateway.proxy.gate import PASS, WAIT, Gate, Resume, Verdict
from gateway.proxy.ticket import Ticket
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


class BrokenTransport(FakeTransport):
    """Cannot be written to."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        raise ValueError("a defect")


class EndlessTransport(FakeTransport):
    """Cannot be aborted."""

    def abort(self) -> None:
        raise ValueError("a defect")

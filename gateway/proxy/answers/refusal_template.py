"""What the answers and the records of one refusal have in common, made once for all of them."""

from collections.abc import Mapping

from gateway.proxy.answers.problem import Problem
from gateway.telemetry.services.errors import Kind


class RefusalTemplate:
    """Belongs to one refusal and one gateway (`owner`); tests run several gateways in one process.

    `kinds` says by service how the refusal is counted. `logged` is the end of its log line for the decisions
    `log_decisions` and the body bytes `sent`, those of the latest request; requests that are refused again and again
    share them.
    """

    __slots__ = ("kinds", "log_decisions", "logged", "owner", "problem", "sent")

    def __init__(self, owner: object, problem: Problem) -> None:
        self.owner = owner
        self.problem = problem
        self.kinds: dict[str, Kind] = {}
        self.log_decisions: Mapping[str, str] | None = None
        self.logged = b""
        self.sent = -1

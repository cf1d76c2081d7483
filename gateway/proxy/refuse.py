"""Refusing: how it is counted, logged and answered.

The client that is refused is often the one that hurries, so a refusal has to be much cheaper than what it refuses. A
request that is refused at once never becomes an exchange, and what all answers of one refusal have in common is made
once (`Manner`).
"""

import time
from collections.abc import Mapping

from gateway.policy.token_bucket import Decision
from gateway.proxy.ids import Ids
from gateway.proxy.plan import Plan
from gateway.proxy.refusal import Refusal
from gateway.telemetry.access_log import AccessLog, LoggedRefusal
from gateway.telemetry.errors import ErrorLog, Kind
from gateway.telemetry.metrics import Metrics, RouteCells
from gateway.wire.problem import Problem
from gateway.wire.request import Request
from gateway.wire.server_connection import ServerConnection

_CLOSE = b"Connection: close\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n"


def connection_line(keep_alive: bool) -> bytes:
    return _KEEP_ALIVE if keep_alive else _CLOSE


class Manner:
    """How one refusal is said and recorded by `refuser`: what its answers and their records have in common. `logged`
    goes with the `decisions` and the bytes `sent` it was last made for, `kinds` are by service."""

    __slots__ = ("decisions", "kinds", "logged", "problem", "refuser", "sent")

    def __init__(self, refuser: "Refuser", problem: Problem) -> None:
        self.refuser = refuser
        self.problem = problem
        self.kinds: dict[str, Kind] = {}
        self.decisions: Mapping[str, str] | None = None
        self.logged: LoggedRefusal = b""
        self.sent = -1


class Refuser:
    """Refuses for the whole gateway. `nowhere` are the cells of what never became a request."""

    __slots__ = ("_errors", "_ids", "_log", "_nowhere", "_refusals", "_via_name")

    def __init__(
        self, metrics: Metrics, errors: ErrorLog, log: AccessLog | None, ids: Ids, nowhere: RouteCells, via_name: str
    ) -> None:
        self._refusals = metrics.refusals
        self._errors = errors
        self._log = log
        self._ids = ids
        self._nowhere = nowhere
        self._via_name = via_name

    def at_once(
        self,
        connection: ServerConnection,
        request: Request,
        plan: Plan,
        refusal: Refusal,
        decision: Decision | None,
        decisions: Mapping[str, str],
        now: float,
    ) -> None:
        """A request that never becomes an exchange, which counts as having taken no time. HOT."""
        wall = time.time()
        manner = refusal.manner
        if type(manner) is not Manner or manner.refuser is not self:
            manner = self._manner(refusal)
        fields = request.fields
        request_id = fields.request_id or self._ids.new()
        correlation_id = fields.correlation_id or request_id
        route = plan.route
        route.cells.refused_at_once(request.method, refusal.status)
        kind = manner.kinds.get(route.service) or self._kind(manner, refusal, route.service)
        self._errors.refused(kind, request_id, correlation_id, refusal.detail, now, wall)
        log = self._log
        if log is not None:
            sent = 0 if request.method == "HEAD" else manner.problem.size + len(request_id)
            if manner.decisions is not decisions or manner.sent != sent:
                manner.decisions = decisions
                manner.sent = sent
                manner.logged = log.prepare_refusal(refusal.status, decisions, refusal.reason, sent)
            log.refusal(plan.known or plan.know(log), manner.logged, request_id, correlation_id, wall)
        # From here on as in `exchange`.
        self._refusals[refusal.reason] += 1
        lines = plan.cors_refused if decision is None else route.rate_lines(decision) + plan.cors_refused
        keep_alive = connection.reusable and not (refusal.close or request.expect_continue)
        if not keep_alive or not request.minor:
            lines += connection_line(keep_alive)
        response = manner.problem.render(request_id, lines, wall, request.method == "HEAD")
        connection.answer(response, now, keep_alive)

    def size(self, refusal: Refusal, request: Request, request_id: bytes) -> int:
        """The bytes of the body that this refusal sends in answer to the request."""
        return 0 if request.method == "HEAD" else self._manner(refusal).problem.size + len(request_id)

    def exchange(
        self,
        connection: ServerConnection,
        request: Request,
        refusal: Refusal,
        request_id: bytes,
        lines: bytes,
        now: float,
        *,
        close: bool,
    ) -> None:
        """An exchange that is over, and recorded but for what only refusals are counted in. `lines` are header lines
        besides those of the refusal."""
        self._refusals[refusal.reason] += 1
        keep_alive = connection.reusable and not (refusal.close or close)
        if not keep_alive or not request.minor:
            lines += connection_line(keep_alive)
        problem = self._manner(refusal).problem
        response = problem.render(request_id, lines, time.time(), request.method == "HEAD")
        connection.answer(response, now, keep_alive)

    def connection(self, connection: ServerConnection, refusal: Refusal) -> None:
        """What never became a request: there is nothing to name but who sent it and what was wrong. It closes."""
        now, wall = time.monotonic(), time.time()
        request_id = self._ids.new()
        status, reason = refusal.status, refusal.reason
        self._nowhere.exchange("_OTHER", status, 0.0)
        kind = self._errors.kind("", reason, status)
        self._errors.refused(kind, request_id, request_id, refusal.detail, now, wall)
        problem = self._manner(refusal).problem
        if self._log is not None:
            entry = {"request_id": request_id.decode(), "client": connection.peer, "status": status}
            counts = {"bytes_out": problem.size + len(request_id), "attempts": 0}
            self._log.write({**entry, **counts, "reason": reason}, wall)
        self._refusals[reason] += 1
        response = problem.render(request_id, _CLOSE, wall, False)
        connection.answer(response, now, False)

    def _manner(self, refusal: Refusal) -> Manner:
        manner = refusal.manner
        if type(manner) is not Manner or manner.refuser is not self:
            problem = Problem(
                self._via_name,
                refusal.status,
                refusal.reason,
                refusal.detail,
                retry_after=refusal.retry_after,
                error=refusal.error,
                extra=refusal.extra,
            )
            manner = refusal.manner = Manner(self, problem)
        return manner

    def _kind(self, manner: Manner, refusal: Refusal, service: str) -> Kind:
        kind = manner.kinds[service] = self._errors.kind(service, refusal.reason, refusal.status)
        return kind

"""Refusing: how it is counted, logged and answered.

The client that is refused is often the one that hurries, so a refusal has to be much cheaper than what it refuses. A
request that is refused at once never becomes an exchange, and what the answers of one refusal to the same request head
have in common is made once (`Reply`).
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

# Of one request head: as many as the jitter of `Retry-After` makes, and what the gates say after one another.
_KEPT = 8

_CLOSE = b"Connection: close\r\n"
_KEEP_ALIVE = b"Connection: keep-alive\r\n"


def connection_line(keep_alive: bool) -> bytes:
    return _KEEP_ALIVE if keep_alive else _CLOSE


class Reply:
    """What all answers of one refusal to one request head have in common while the gates decide the same."""

    __slots__ = ("decisions", "kind", "logged", "problem")

    def __init__(
        self, kind: Kind, problem: Problem, logged: LoggedRefusal | None, decisions: Mapping[str, str]
    ) -> None:
        self.kind = kind
        self.problem = problem
        self.logged = logged
        self.decisions = decisions


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
        reply = plan.replies.get(refusal)
        if reply is None or reply.decisions is not decisions:
            reply = self._reply(plan, refusal, decisions)
        fields = request.fields
        request_id = fields.request_id or self._ids.new()
        correlation_id = fields.correlation_id or request_id
        route = plan.route
        route.cells.refused_at_once(request.method, refusal.status)
        self._errors.refused(reply.kind, request_id, correlation_id, refusal.detail, now, wall)
        if self._log is not None and reply.logged is not None:
            self._log.refusal(reply.logged, request_id, correlation_id, wall)
        # From here on as in `exchange`.
        self._refusals[refusal.reason] += 1
        lines = b"" if decision is None else route.rate_lines(decision)
        keep_alive = connection.reusable and not (refusal.close or request.expect_continue)
        if not keep_alive or not request.minor:
            lines += connection_line(keep_alive)
        response = reply.problem.render(request_id, lines, wall, request.method == "HEAD")
        connection.answer(response, now, keep_alive)

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
        response = refusal.problem(self._via_name).render(request_id, lines, time.time(), request.method == "HEAD")
        connection.answer(response, now, keep_alive)

    def connection(self, connection: ServerConnection, refusal: Refusal) -> None:
        """What never became a request: there is nothing to name but who sent it and what was wrong. It closes."""
        now, wall = time.monotonic(), time.time()
        request_id = self._ids.new()
        status, reason = refusal.status, refusal.reason
        self._nowhere.exchange("_OTHER", status, 0.0)
        kind = self._errors.kind("", reason, status)
        self._errors.refused(kind, request_id, request_id, refusal.detail, now, wall)
        if self._log is not None:
            entry = {"request_id": request_id.decode(), "client": connection.peer, "status": status, "attempts": 0}
            self._log.write({**entry, "reason": reason}, wall)
        self._refusals[reason] += 1
        response = refusal.problem(self._via_name).render(request_id, _CLOSE, wall, False)
        connection.answer(response, now, False)

    def _reply(self, plan: Plan, refusal: Refusal, decisions: Mapping[str, str]) -> Reply:
        status, reason = refusal.status, refusal.reason
        kind = self._errors.kind(plan.route.service, reason, status)
        log = self._log
        logged = log.prepare_refusal(plan.known(log), status, decisions, reason) if log is not None else None
        if len(plan.replies) >= _KEPT:
            plan.replies.clear()
        reply = plan.replies[refusal] = Reply(kind, refusal.problem(self._via_name), logged, decisions)
        return reply

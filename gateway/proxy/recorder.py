"""The recorder: the only caller of metrics, error figures and the access log on the path of a request.

It is told once what happened, and writes it down wherever it is counted, so that the places cannot disagree. Nothing
here waits, and nothing raises for what a client or an upstream sent.
"""

import time
from typing import Final

from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusal_template import RefusalTemplate
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.ticket import Ticket
from gateway.telemetry.busiest import Busiest, Busy
from gateway.telemetry.log.access import AccessLog
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.services.categories import category_of_reason, category_of_status
from gateway.telemetry.services.errors import ErrorLog
from gateway.telemetry.tracing.tracer import OWN, Tracer

ORIGIN_LINE: Final = b"traceparent: %b\r\n"


class Recorder:
    """One for each gateway. `via_name` is its name in `Proxy-Status`; `log` is None where no access log is kept,
    `tracer` where nothing is exported, `busiest` where clients are not counted."""

    __slots__ = (
        "_attempts",
        "_busiest",
        "_errors",
        "_log",
        "_metrics",
        "_nowhere",
        "_refusals",
        "_tracer",
        "_via_name",
    )

    def __init__(
        self,
        metrics: Metrics,
        errors: ErrorLog,
        log: AccessLog | None,
        via_name: str,
        tracer: Tracer | None = None,
        busiest: Busiest | None = None,
    ) -> None:
        self._busiest = busiest
        self._attempts = metrics.attempts
        self._metrics = metrics
        self._errors = errors
        self._log = log
        self._nowhere = metrics.route("")
        self._refusals = metrics.refusals
        self._tracer = tracer
        self._via_name = via_name

    # Requests.

    def over(self, ticket: Ticket, now: float) -> None:
        """An exchange is over that was not refused. HOT."""
        account = ticket.account
        seconds = now - ticket.started
        account.cells.exchange(ticket.request.method, ticket.status, seconds)
        if ticket.reason or ticket.answered_badly:
            # A failure that the client got too: that of an earlier attempt has been made good.
            failed = ticket.status == ticket.answered_badly
            self._errors.over(account.service, ticket.reason, failed, now)
        else:
            self._errors.cells[account.service].request(now)
        if self._tracer is not None:
            self._trace(self._tracer, ticket, seconds, now)
        log = self._log
        if log is not None:
            log.exchange(ticket, seconds, time.time())

    def own_request_over(self, ticket: Ticket, status: int, reason: str, now: float) -> None:
        """A request of the gateway's own is over, which no client has sent: its attempts are counted, and it is no
        exchange. `status` is what was answered, 0 for nothing; `reason` says why, empty with an answer."""
        tracer, trace = self._tracer, ticket.trace
        if tracer is not None and trace is not None:
            ticket.status = status
            ticket.reason = reason
            seconds = now - ticket.started
            kept = "" if trace.sampled else tracer.keeps(ticket, len(trace.attempts), seconds, now)
            if trace.sampled or kept:
                tracer.export(ticket, trace, ticket.request.method, seconds, now, kept, OWN)

    def origin(self, ticket: Ticket) -> bytes:
        """A header line that names the span of this exchange, to be kept with what is sent because of it later
        (`gateway.proxy.errands.own_requests.origin_of`); empty where no spans are exported."""
        if self._tracer is None:
            return b""
        return ORIGIN_LINE % self._tracer.traces.naming(ticket.own_id, ticket.request.fields.traceparent)

    def answered(self, ticket: Ticket, content: OwnAnswer, now: float) -> None:
        """The gateway has an answer of its own that is no refusal. One that it has at once takes no time."""
        account = ticket.account
        seconds = now - ticket.started
        ticket.status = content.status
        ticket.bytes_out = content.size
        ticket.note(*content.decision)
        account.cells.exchange(ticket.request.method, content.status, seconds)
        if account.service:
            self._errors.cells[account.service].request(now)
        if self._tracer is not None:
            self._trace(self._tracer, ticket, seconds, now)
        if self._log is not None:
            self._log.exchange(ticket, seconds, time.time())

    def refused(self, ticket: Ticket, refusal: Refusal, now: float) -> RefusalTemplate:
        """An exchange is over because it was refused. Call it before the answer is written: who reads the answer may
        look at the counters at once. Returns what the answer is made of."""
        wall = time.time()
        seconds = now - ticket.started
        ticket.account.cells.exchange(ticket.request.method, refusal.status, seconds)
        template = self._count(ticket, refusal, now, wall)
        ticket.bytes_out = _sent(ticket, template)
        if self._tracer is not None:
            self._trace(self._tracer, ticket, seconds, now)
        log = self._log
        if log is not None:
            log.exchange(ticket, seconds, wall)
        return template

    def refused_at_once(self, ticket: Ticket, refusal: Refusal, now: float, wall: float) -> RefusalTemplate:
        """A request is refused before it became an exchange; it counts as having taken no time. HOT."""
        ticket.status = refusal.status
        ticket.reason = refusal.reason
        ticket.account.cells.exchange(ticket.request.method, refusal.status, 0.0)
        template = self._count(ticket, refusal, now, wall)
        if self._tracer is not None:
            self._trace(self._tracer, ticket, 0.0, now)
        log = self._log
        if log is not None:
            decisions = ticket.log_decisions
            ticket.bytes_out = sent = _sent(ticket, template)
            if template.log_decisions is not decisions or template.sent != sent:
                template.log_decisions = decisions
                template.sent = sent
                template.logged = log.prepare_refusal(ticket)
            log.refusal(ticket, template.logged, wall)
        return template

    def refused_connection(self, request_id: bytes, peer: str, refusal: Refusal) -> RefusalTemplate:
        """What never became a request: there is nothing to name but who sent it and what was wrong."""
        now, wall = time.monotonic(), time.time()
        status, reason = refusal.status, refusal.reason
        self._nowhere.exchange("_OTHER", status, 0.0)
        self._refusals[reason] += 1
        kind = self._errors.kind("", reason, status)
        self._errors.refused(kind, request_id, request_id, refusal.detail, now, wall, peer)
        template = refusal.template_for(self, self._via_name)
        if self._log is not None:
            entry = {"request_id": request_id.decode(), "client": peer, "status": status}
            counts = {"bytes_out": template.problem.size + len(request_id), "attempts": 0}
            self._log.write({**entry, **counts, "reason": reason}, wall)
        return template

    def client_closed(self) -> None:
        """A client left before its answer was complete."""
        self._metrics.client_closed()

    def broken_off(self, reason: str) -> None:
        """An answer broke off within its body, after its head had gone out."""
        self._refusals[reason] += 1

    # Gates.

    def shed(self, cause: str) -> None:
        """A request or a connection was turned away by the global caps."""
        self._metrics.shed(cause)

    def bulkhead_rejected(self, upstream: str) -> None:
        """A request found no place, or no connection, at an upstream."""
        self._metrics.bulkhead_rejected(upstream)

    def rate_limit_counts(self, policy: str) -> list[int]:
        """Where the decisions of a rate limit are counted: the limited ones, the allowed ones."""
        return self._metrics.rate_limit(policy)

    def busy_clients(self, policy: str) -> Busy | None:
        """Where the decisions of a rate limit are noted by client, None where they are not."""
        busiest = self._busiest
        return None if busiest is None else busiest.of(policy)

    def rate_limit_exempt(self, policy: str) -> list[int]:
        """Likewise of clients that the rate limit is not for: only the second of the two ever grows."""
        return self._metrics.exempt(policy)

    # Attempts.

    def attempt_ended(self, upstream: str, seconds: float) -> None:
        """One attempt is over that says something about the upstream. HOT."""
        self._attempts[upstream].observe(seconds)

    def attempt_answered_badly(self, ticket: Ticket, upstream: str, status: int) -> None:
        """One attempt was answered with a status that counts as a failure."""
        ticket.answered_badly = status
        if ticket.trace is not None:
            ticket.trace.answered(status)
        category = category_of_status(status)
        self._attempt_failed(ticket, upstream, category, "upstream_status", status, f"answered {status}")

    def attempt_failed(self, ticket: Ticket, upstream: str, reason: str, status: int | None, detail: str) -> None:
        """One attempt came to nothing. `status` is what the upstream had answered before it broke off, None without an
        answer."""
        if ticket.trace is not None:
            ticket.trace.failed(reason, status)
        self._attempt_failed(ticket, upstream, category_of_reason(reason), reason, status, detail)

    def retried(self, upstream: str) -> None:
        """Another attempt follows one that was counted."""
        self._metrics.retried(upstream)

    def retry_budget_exhausted(self, upstream: str) -> None:
        """An attempt would have been repeated, and the budget did not allow it."""
        self._metrics.retry_budget_exhausted(upstream)

    def _trace(self, tracer: Tracer, ticket: Ticket, seconds: float, now: float) -> None:
        """Export the exchange, if it is one of those. Of one that is not sampled nothing was noted before something
        went wrong. HOT."""
        trace, fields = ticket.trace, ticket.request.fields
        kept = ""
        if trace is None:
            sampled = not ticket.attempts and tracer.traces.samples(ticket.own_id, fields.traceparent)
            attempts = ticket.attempts
        else:
            sampled = trace.sampled
            attempts = len(trace.attempts)
        if not sampled:
            kept = tracer.keeps(ticket, attempts, seconds, now)
            if not kept:
                return
        if trace is None:
            trace = tracer.traces.begin(ticket.own_id, fields.traceparent, fields.tracestate)
            if ticket.attempts:
                trace.attempt(ticket.account.service, ticket.endpoint, b"", now - ticket.upstream_seconds, probe=False)
                trace.settled(now, now, answered=True)
        tracer.export(ticket, trace, ticket.request.method, seconds, now, kept)
        ticket.account.cells.duration.exemplify(seconds, trace.trace_id.decode(), time.time())

    def _attempt_failed(
        self, ticket: Ticket, upstream: str, category: str, reason: str, status: int | None, detail: str
    ) -> None:
        self._metrics.upstream_error(upstream, category)
        self._errors.attempt_failed(
            upstream,
            category,
            reason,
            status,
            ticket.attempts,
            ticket.request_id,
            ticket.correlation_id,
            f"upstream {upstream}: {detail}",
            ticket.client,
        )

    def _count(self, ticket: Ticket, refusal: Refusal, now: float, wall: float) -> RefusalTemplate:
        """A refusal, wherever refusals are counted. HOT."""
        template = refusal.template
        if template is None or template.owner is not self:
            template = refusal.template_for(self, self._via_name)
        service = ticket.account.service
        kind = template.kinds.get(service)
        if kind is None:
            kind = template.kinds[service] = self._errors.kind(service, refusal.reason, refusal.status)
        self._refusals[refusal.reason] += 1
        self._errors.refused(kind, ticket.request_id, ticket.correlation_id, refusal.detail, now, wall, ticket.client)
        return template


def _sent(ticket: Ticket, template: RefusalTemplate) -> int:
    """The bytes of the body that a refusal sends in answer to the request. HOT."""
    return 0 if ticket.request.method == "HEAD" else template.problem.size + len(ticket.request_id)

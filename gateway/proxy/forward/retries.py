"""The only retry loop: attempts at a target, one after the other, until there is an answer for the client.

Whether another attempt follows is decided by one predicate (`gateway.policy.retry.next_delay`) from a record of plain
facts. Once the head of an answer has gone to the client there is no way back. All attempts and the pauses between them
share one total deadline.
"""

import asyncio
import time
from functools import lru_cache, partial

from gateway.policy.outcome import IGNORED, Outcome
from gateway.policy.retry import EndedAttempt, Failure, Retry, next_delay, parse_retry_after
from gateway.proxy.answers.refusals import Refusal, jittered
from gateway.proxy.defects import guarded
from gateway.proxy.forward.attempt import Attempt
from gateway.proxy.forward.downstream import Downstream
from gateway.proxy.forward.faulty import attempt_with_faults
from gateway.proxy.forward.owner import Owner
from gateway.proxy.forward.target import Target
from gateway.proxy.gate import PASS, WAIT, Chain, Resumption
from gateway.proxy.gates.passage import Passage
from gateway.proxy.requests.body import RequestBody
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.reasons import REASONS
from gateway.wire.message.response import Response


class Forward(Owner):
    """Carries one request. `idempotent` says that it may be sent again although the upstream may have acted on it."""

    __slots__ = (
        "_attempt",
        "_attempts_before",
        "_ended",
        "_free_retry_used",
        "_idempotent",
        "_passage",
        "_timer",
    )

    def __init__(
        self,
        runtime: Runtime,
        ticket: Ticket,
        target: Target,
        body: RequestBody,
        downstream: Downstream,
        chain: Chain,
        *,
        idempotent: bool,
    ) -> None:
        self.runtime = runtime
        self.ticket = ticket
        self.target = target
        self.body = body
        self.downstream = downstream
        self.chain = chain
        self.head = target.head
        self.tried = ()
        self.total_timeout = total_timeout = target.upstream.total_timeout
        self.total_deadline = (body.ended_at or ticket.started) + total_timeout
        self._idempotent = idempotent
        self._attempt: Attempt | None = None
        self._passage: Passage | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._free_retry_used = False
        self._attempts_before = 0
        self._ended = False

    def __repr__(self) -> str:
        return f"<Forward {self.target.upstream.name} attempts={self.ticket.attempts} {self._attempt}>"

    # From the exchange.

    def begin(self, now: float) -> None:
        """Make an attempt. Every gate is entered, those before an attempt too. HOT."""
        ticket, upstream = self.ticket, self.target.upstream
        if ticket.attempts == self._attempts_before and not self._free_retry_used:
            upstream.budget.request(now)
        endpoint = upstream.balancer.pick(now, self.tried)
        if endpoint is None:
            self._refused(upstream.all_out)
            return
        ticket.attempts += 1
        ticket.endpoint = endpoint.label
        ticket.unanswered = False
        faults = upstream.faults
        attempt = Attempt(self, endpoint, now) if faults is None else attempt_with_faults(self, endpoint, faults, now)
        self._attempt = attempt
        endpoint.in_flight += 1
        trace, target = ticket.trace, self.target
        self.head = target.head
        if trace is not None:
            self.head = trace.attempt(upstream.name, endpoint.label, target.head, now, probe=attempt.probe)
        attempt.start(fresh=self._free_retry_used)

    def refused_before(self, refusal: Refusal) -> None:
        """A gate of the upstream has refused the request before it came here. Only with a fallback."""
        raise NotImplementedError

    def request_body(self, data: bytes) -> None:
        """A piece of the body has arrived. HOT."""
        if self._ended:
            return
        attempt = self._attempt
        if attempt is not None:
            attempt.body(data)
        else:
            self.body.hold(data)
            # Who collected it may have begun the attempt, because it is too large: then the attempt says what it wants.
            if self._holds:
                self.downstream.want_body(self.body.collecting)

    @property
    def _holds(self) -> bool:
        """Whether the request body is held, because no attempt takes it and one may follow."""
        return self._attempt is None and not self._ended

    def request_body_end(self) -> None:
        """All of the body has arrived."""
        if self._attempt is not None and not self._ended:
            self._attempt.body_end()

    def pause_response(self) -> None:
        """The client takes no more of the answer for now."""
        if self._attempt is not None:
            self._attempt.pause_response()

    def resume_response(self) -> None:
        """The client takes more of the answer."""
        if self._attempt is not None:
            self._attempt.resume_response()

    @property
    def last_deadline(self) -> float:
        """When the request is given up, whoever is asked then; an instant of the monotonic clock."""
        return self.total_deadline

    def leave(self, outcome: Outcome, now: float) -> None:
        """The exchange is over: leave every gate. HOT."""
        ticket = self.ticket
        self.chain.leave(ticket, outcome, now - ticket.started)

    def cancel(self, *, client_left: bool = False) -> None:
        """The client has gone, or its request turned out to be broken."""
        if self._ended:
            return
        attempt = self._attempt
        if attempt is not None:
            attempt.cancel(client_left=client_left)
        self.ended()

    # From the attempt.

    def traced(self) -> None:
        ticket, traces, attempt = self.ticket, self.runtime.traces, self._attempt
        if ticket.trace is None and traces.exported and attempt is not None:
            fields, target = ticket.request.fields, self.target
            trace = ticket.trace = traces.begin(ticket.own_id, fields.traceparent, fields.tracestate)
            # When it began is known when it is settled.
            trace.attempt(target.upstream.name, attempt.endpoint.label, target.head, 0.0, probe=attempt.probe)

    def ended(self) -> None:
        """The answer has gone to the client, or none comes. Idempotent."""
        self._ended = True
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.end()
        passage, self._passage = self._passage, None
        if passage is not None:
            passage.abandon()
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def retry_after(self, response: Response, now: float) -> Retry | None:
        """HOT."""
        status = response.status
        if status not in self.target.upstream.retry.statuses:
            return None
        value = response.fields.retry_after
        floor = parse_retry_after(value, time.time()) if value is not None else None
        retry = self._decide(now, status, None, floor, stale=False)
        if retry is not None:
            self.traced()
            if self.ticket.trace is not None:
                self.ticket.trace.answered(status)
        return retry

    def retry_lacking(self, now: float) -> Retry | None:
        """Whether another attempt follows one that this host could not even make."""
        return self._decide(now, None, "connect", None, stale=False)

    def again(self, retry: Retry) -> None:
        """Even without a pause not from within the callback of the connection that failed."""
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.end()
            if not retry.free:
                self.tried = (*self.tried, attempt.endpoint)
                self.runtime.recorder.retried(self.target.upstream.name)
        self._timer = self.runtime.loop.call_later(retry.delay, self._attempt_again)

    def failed(self, failure: Failure, reason: str, detail: str, error: str | None, *, stale: bool, now: float) -> None:
        """Record what came of an attempt that has failed, and make another one or refuse the request."""
        attempt = self._attempt
        assert attempt is not None  # noqa: S101 - it is the one that calls
        ticket = self.ticket
        name = self.target.upstream.name
        self.traced()
        retry = self._decide(now, None, failure, None, stale=stale)
        if retry is not None and retry.free:
            self._free_retry_used = True
            if ticket.trace is not None:
                ticket.trace.failed(reason, None)
            attempt.settle_failed(now, stale=True)
            ticket.attempts -= 1
        else:
            self.runtime.recorder.attempt_failed(ticket, name, reason, None, detail)
            attempt.settle_failed(now, stale=stale)
        if retry is not None:
            self.again(retry)
            return
        self._give_up(_refusal(reason, f"upstream {name}: {detail}", error))

    def no_connection(self, why: str, now: float) -> None:
        """Refuse the request for want of a connection, which is not held against the upstream."""
        name = self.target.upstream.name
        self.runtime.recorder.bulkhead_rejected(name)
        retry_after = jittered(1.0, self.runtime.rng)
        self._give_up(_refusal("bulkhead_full", f"upstream {name}: {why}", None, retry_after))

    # The loop.

    def _attempt_again(self) -> None:
        self._timer = None
        self._ask_gates(self.chain.per_attempt)

    def _ask_gates(self, start: int) -> None:
        """Pass the gates from `start` on; those before it are entered. A timer calls it, which hears of no defect."""
        guarded(self.ticket, partial(self._admit, start), self.downstream.failed)

    def _admit(self, start: int) -> None:
        ticket = self.ticket
        ticket.now = now = time.monotonic()
        verdict = self.chain.admit_from(ticket, start)
        if verdict is PASS:
            self.begin(now)
        elif verdict is WAIT:
            downstream, deadlines, left = self.downstream, self.runtime.deadlines, self.total_deadline - now
            self._passage = passage = Passage(
                self.chain, ticket, self._passed, downstream.waits, downstream.failed, deadlines, left
            )
            passage.wait()
        elif isinstance(verdict, Refusal):
            self._passed(verdict)

    def _passed(self, verdict: Resumption) -> None:
        """The gates before an attempt have answered. None of them has an answer of its own."""
        self._passage = None
        if isinstance(verdict, Refusal):
            self._refused(verdict)
        else:
            self.begin(self.ticket.now)

    def _refused(self, refusal: Refusal) -> None:
        """No attempt is made."""
        self.chain.leave_attempt(self.ticket, IGNORED, 0.0)
        self._give_up(refusal)

    def _give_up(self, refusal: Refusal) -> None:
        """No attempt follows."""
        self.ended()
        self.downstream.refuse(refusal)

    def _decide(
        self, now: float, status: int | None, failure: Failure | None, retry_after: float | None, *, stale: bool
    ) -> Retry | None:
        attempt = self._attempt
        assert attempt is not None  # noqa: S101 - it is the one that asks
        runtime, upstream, ticket = self.runtime, self.target.upstream, self.ticket
        facts = EndedAttempt(
            attempt=ticket.attempts - self._attempts_before,
            idempotent=self._idempotent,
            replayable=self.body.replayable,
            request_sent=attempt.request_sent,
            stale=stale,
            free_retry_used=self._free_retry_used,
            status=status,
            failure=failure,
            upstream_retry_after=retry_after,
            remaining=self.total_deadline - now,
            probe=attempt.probe,
        )
        decision = next_delay(upstream.retry, facts, upstream.budget, runtime.rng, now)
        if isinstance(decision, Retry):
            return decision
        if decision.reason == "budget":
            runtime.recorder.retry_budget_exhausted(upstream.name)
        if self._idempotent:
            ticket.note("retry", decision.reason)
        return None


@lru_cache(maxsize=1024)
def _refusal(reason: str, detail: str, error: str | None, retry_after: int | None = None) -> Refusal:
    """In place of an answer. The same few come while an upstream is failing."""
    return Refusal(REASONS[reason].status, reason, detail, retry_after, error)

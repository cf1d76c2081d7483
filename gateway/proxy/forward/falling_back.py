"""A forwarder with a fallback: the next upstream is asked where one fails (`gateway.proxy.destinations.fallback`).

    refused by a gate of the upstream,  ──▶ next upstream: gates, attempts, retries of its own ──▶ …
    no answer, an answer passed over        │
                                            └──▶ none left: a last good answer, the fixed response, the refusal

A request keeps the gates that it has passed in front of its upstream: limits for clients are not asked again. The gates
of the upstream (bulkhead, circuit) are left, and those of the next one are passed.

Time. All upstreams share the total time limit of the first one, so a client waits no longer than without a fallback. An
upstream may use an equal part of what is left, at most its own total time limit; what it leaves is for those behind.
"""

import time
from typing import Final

from gateway.policy.outcome import FAILURE, IGNORED, Outcome
from gateway.policy.retry import Retry, parse_retry_after
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.answers.stored_answer import is_undone
from gateway.proxy.destinations.fallback import Fallback, Hop, cause_of, cause_of_status
from gateway.proxy.destinations.hedging import Hedging
from gateway.proxy.forward.downstream import Downstream
from gateway.proxy.forward.hedge import OTHER
from gateway.proxy.forward.hedging import HedgingForward
from gateway.proxy.forward.target import Target
from gateway.proxy.gate import Chain
from gateway.proxy.requests.body import RequestBody
from gateway.proxy.routes.plan import Plan
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.reasons import UPSTREAM_REASONS
from gateway.wire.message.response import Response

# What `retry_after` says where the answer is passed over: the "other attempt" is one at the next upstream.
_GO_ON: Final = Retry(0.0)


class FallbackForward(HedgingForward):
    """Made for the requests of routes with a fallback. `plan` is the request's, `hops` are where it may go on to from
    its target, and `tail` is what is behind the plan's part of the head: the same for every upstream."""

    __slots__ = (
        "_began",
        "_decided_at",
        "_fallback",
        "_hops",
        "_keyed",
        "_next",
        "_outcome",
        "_plan",
        "_rest",
        "_sent_before",
        "_status",
        "_tail",
        "_trail",
    )

    def __init__(
        self,
        runtime: Runtime,
        ticket: Ticket,
        target: Target,
        body: RequestBody,
        downstream: Downstream,
        chain: Chain,
        plan: Plan,
        fallback: Fallback,
        hops: tuple[Hop, ...],
        tail: bytes,
        hedging: Hedging | None = None,
        *,
        idempotent: bool,
    ) -> None:
        super().__init__(runtime, ticket, target, body, downstream, chain, hedging, idempotent=idempotent)
        self._plan = plan
        self._fallback = fallback
        self._hops = hops
        self._tail = tail
        self._keyed = plan.keyed and target.upstream.config.honours_idempotency_key
        self._next = 0
        self._trail = ""
        self._status = 0
        self._decided_at = 0.0
        self._outcome: Outcome = IGNORED
        self._sent_before = False
        self._began = ticket.started
        whole = self.total_timeout
        share = whole / (1 + len(hops))
        if fallback.after is not None:
            share = min(fallback.after, whole)
        self._rest = whole - share
        self.total_timeout = share
        self.total_deadline -= self._rest

    @property
    def last_deadline(self) -> float:
        return self.total_deadline + self._rest

    def leave(self, outcome: Outcome, now: float) -> None:
        ticket = self.ticket
        self.chain.leave_from(ticket, self._fallback.shared, outcome, now - self._began)
        super().leave(outcome, now)

    def refused_before(self, refusal: Refusal) -> None:
        """A gate of the upstream has refused the request before it came here; the gates before that one have just
        passed it. The fallback takes such refusals (`Fallback.takes`)."""
        self.chain.enter_to(self.ticket, self._fallback.shared)
        self._give_up(refusal)

    # From the attempt.

    def retry_after(self, response: Response, now: float) -> Retry | None:
        """An answer that is passed over is dropped like one that is followed by a retry. Who asks for time is not
        waited for while somebody else may be asked."""
        if self._passed_over_for_hedge(response, now):
            return OTHER
        status = response.status
        passes = self._fallback.passes_over(status)
        hop = self._hop(status, now) if passes else None
        if hop is None or not _asks_for_time(response):
            retry = super().retry_after(response, now)
            if retry is not None:
                return retry
        if not passes:
            return None
        if hop is None and self._fallback.answer(self.ticket, cause_of_status(status), status, now) is None:
            return None
        self.traced()
        if self.ticket.trace is not None:
            self.ticket.trace.answered(status)
        self._status = status
        self._decided_at = now
        self._outcome = FAILURE if status in self.target.upstream.failure_statuses else IGNORED
        return _GO_ON

    def says_nothing(self, status: int) -> bool:
        return super().says_nothing(status) or self._fallback.passes_over(status)

    def again(self, retry: Retry) -> None:
        if retry is _GO_ON:
            self._go_on(cause_of_status(self._status), self._status, self._decided_at)
        else:
            super().again(retry)

    # The next upstream.

    def _give_up(self, refusal: Refusal) -> None:
        reason = refusal.reason
        if self._fallback.takes(reason):
            self._outcome = FAILURE if reason in UPSTREAM_REASONS else IGNORED
            if self._go_on(cause_of(reason), 0, time.monotonic()):
                return
        self._note()
        super()._give_up(refusal)

    def _hop(self, status: int, now: float) -> Hop | None:
        """The next upstream that the request may go to; None where there is none, or no time for it."""
        fallback, ticket = self._fallback, self.ticket
        if self._next >= len(self._hops) or not self.body.replayable or self.last_deadline <= now:
            return None
        hop = self._hops[self._next]
        return hop if fallback.may_repeat(ticket, hop, status, keyed=self._keyed) else None

    def _go_on(self, cause: str, status: int, now: float) -> bool:
        """Leave the present upstream for the next one, or for an answer without one. False where there is neither."""
        hop = self._hop(status, now)
        instead = self._fallback.answer(self.ticket, cause, status, now) if hop is None else None
        if hop is None and instead is None:
            return False
        attempt, self._attempt = self._attempt, None
        if attempt is not None:
            attempt.end()
        ticket = self.ticket
        ticket.now = now
        if is_undone(status) and ticket.attempts - self._attempts_before == 1:
            # In its own words this upstream has done nothing.
            ticket.sent = self._sent_before
        self.chain.leave_from(ticket, self._fallback.shared, self._outcome, now - self._began)
        to = hop.upstream.name if hop is not None else instead[0] if instead is not None else ""
        self._trail += f"{', ' if self._trail else ''}{to}: {cause}"
        self._fallback.used(to, cause)
        self._note()
        if hop is not None:
            self._turn_to(hop, cause, now)
        elif instead is not None:
            self.ended()
            self.downstream.substitute(instead[1])
        return True

    def _turn_to(self, hop: Hop, cause: str, now: float) -> None:
        left = self.last_deadline - now
        self._next += 1
        upstream = hop.upstream
        share = min(left / (1 + len(self._hops) - self._next), upstream.total_timeout)
        self.total_timeout = share
        self.total_deadline = now + share
        self._rest = left - share
        ticket = self.ticket
        ticket.fallback = (upstream.name, cause)
        self._hedging = None
        self._keyed = self._keyed and upstream.config.honours_idempotency_key
        self._idempotent = self._plan.may_be_repeated(ticket.request, upstream)
        self.target = Target(upstream, self._plan.head_to(ticket.request, upstream, ticket.hooked) + self._tail)
        self.chain = hop.chain
        self.tried = ()
        self._free_retry_used = False
        self._attempts_before = ticket.attempts
        self._sent_before = ticket.sent
        self._began = now
        # Not from within the callback of the connection that failed.
        self._timer = self.runtime.loop.call_later(0.0, self._enter)

    def _enter(self) -> None:
        self._timer = None
        self._ask_gates(self._fallback.shared)

    def _note(self) -> None:
        if self._trail:
            self.ticket.note("fallback", self._trail)


def _asks_for_time(response: Response) -> bool:
    """Whether the answer says that the request is to come again later, and not at once."""
    value = response.fields.retry_after
    return value is not None and (parse_retry_after(value, time.time()) or 0.0) > 0.0

"""A forwarder whose attempts may be hedged: a second one is made beside one that has had no answer for long.

    attempt ──── after ────┬──▶ the first attempt ──┐   the first good head goes to the client; the other attempt is
                           └──▶ the hedge ──────────┘   cancelled, and its connection closed

    one fails, the other runs     wait for the other
    both have failed              whatever follows a failed attempt (`gateway.proxy.forward.retries`)
    the client leaves             both are cancelled

A good head is one that is neither retried nor a failure, nor a 429, nor passed over by a fallback. While both run each
has an account of its own: the first the request's ticket, the hedge a second one, with the gates of the upstream
entered a second time. As soon as only one is left it is the request's only attempt, whichever it was: if it is the
hedge, what it has entered becomes the request's. From there on nothing is different from any other request.

A request has one hedge at most, and none at the upstreams of a fallback.
"""

import asyncio
import time
from functools import partial
from typing import Final

from gateway.alarm import STALL
from gateway.policy.outcome import IGNORED
from gateway.policy.retry import Failure, Retry
from gateway.proxy.defects import guarded
from gateway.proxy.destinations.hedging import ABANDONED, FAILED, LOST, WON, Hedging
from gateway.proxy.forward.attempt import Attempt
from gateway.proxy.forward.downstream import Downstream
from gateway.proxy.forward.hedge import OTHER, Hedge, Hedged, Line, write_off
from gateway.proxy.forward.target import Target
from gateway.proxy.gate import Chain
from gateway.proxy.requests.body import RequestBody
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.proxy.upstreams.upstream import Endpoint
from gateway.telemetry.tracing.trace import SUPERSEDED
from gateway.wire.message.response import Response

_NEVER: Final = float("inf")


class HedgingForward(Hedged):
    """`hedging` None: none of its attempts is hedged."""

    __slots__ = ("_hedge", "_hedge_timer", "_hedged", "_hedging", "_remaining")

    def __init__(
        self,
        runtime: Runtime,
        ticket: Ticket,
        target: Target,
        body: RequestBody,
        downstream: Downstream,
        chain: Chain,
        hedging: Hedging | None,
        *,
        idempotent: bool,
    ) -> None:
        super().__init__(runtime, ticket, target, body, downstream, chain, idempotent=idempotent)
        self._hedging = hedging
        self._hedge_timer: asyncio.TimerHandle | None = None
        self._hedge: Hedge | None = None
        self._hedged = False
        # What it means if the one that is left has the answer; empty without a hedge, and when that is settled.
        self._remaining = ""

    def begin(self, now: float) -> None:
        """Make an attempt, and hedge it when it is late. HOT."""
        self._stop_hedge_timer()
        super().begin(now)
        hedging, attempt = self._hedging, self._attempt
        if hedging is not None and attempt is not None and not attempt.probe and not self._hedged:
            after = hedging.delay.after(now)
            if after < _NEVER:
                self._hedge_timer = self.runtime.loop.call_later(after, self._late, attempt, now + after)

    def cancel(self, *, client_left: bool = False) -> None:
        """The client has gone, or nobody wants the answer for another reason."""
        hedge = self._hedge
        if hedge is not None:
            hedge.attempt.cancel(client_left=client_left)
            self._let_go(hedge)
            self._settle_hedge(ABANDONED)
        elif self._attempt is not None and not self._attempt.streaming:
            self._remaining_ended(ABANDONED)
        super().cancel(client_left=client_left)

    # From the first attempt, or from the only one.

    def ended(self) -> None:
        """The answer has gone to the client, or none comes. Idempotent."""
        self._stop_hedge_timer()
        if self._hedge is not None:
            self.first_won()
        else:
            self._remaining_ended(self._remaining)
        super().ended()

    def retry_after(self, response: Response, now: float) -> Retry | None:
        """HOT."""
        if self._passed_over_for_hedge(response, now):
            return OTHER
        return super().retry_after(response, now)

    def retry_lacking(self, now: float) -> Retry | None:
        """Nothing follows while the hedge runs."""
        return None if self._hedge is not None else super().retry_lacking(now)

    def again(self, retry: Retry) -> None:
        """Make another attempt, or wait for the hedge."""
        if retry is OTHER:
            self._first_failed()
            return
        self._remaining_ended(FAILED)
        super().again(retry)

    def failed(self, failure: Failure, reason: str, detail: str, error: str | None, *, stale: bool, now: float) -> None:
        """As ever, unless the hedge runs: then it is waited for."""
        attempt = self._attempt
        if self._hedge is None or attempt is None:
            self._remaining_ended(FAILED)
            super().failed(failure, reason, detail, error, stale=stale, now=now)
            return
        self.traced()
        if write_off(self, attempt, reason, detail, now, stale=stale):
            self.ticket.attempts -= 1
        self._first_failed()

    def no_connection(self, why: str, now: float) -> None:
        """As ever, unless the hedge runs: then it is waited for."""
        if self._hedge is not None:
            self._first_failed()
            return
        self._remaining_ended(FAILED)
        super().no_connection(why, now)

    # From both attempts, while both run.

    def first_won(self) -> None:
        """The first attempt has a good answer."""
        hedge = self._hedge
        if hedge is not None:
            trace = hedge.ticket.trace
            if trace is not None:
                trace.failed(SUPERSEDED, None)
            hedge.attempt.lose(time.monotonic())
            self._let_go(hedge)
            self._settle_hedge(LOST)

    def hedge_won(self) -> None:
        """The hedge has a good answer."""
        hedge, first = self._hedge, self._attempt
        if hedge is not None and first is not None:
            now = hedge.attempt.head_at
            trace = self.ticket.trace
            if trace is not None:
                trace.failed(SUPERSEDED, None)
            first.lose(now)
            self._put_in_place(hedge, now)
            self._settle_hedge(WON)

    def hedge_failed(self) -> None:
        """The hedge came to nothing, and is settled. The first attempt goes on."""
        hedge = self._hedge
        if hedge is not None:
            self.tried = (*self.tried, hedge.attempt.endpoint)
            hedge.attempt.end()
            self._let_go(hedge)
            self._remaining = LOST

    def says_nothing(self, status: int) -> bool:
        """Whether an answer of 400 or more is passed over while the other attempt runs."""
        return self._hedging is not None and self._hedging.says_nothing(status)

    def heard(self, response: Response, now: float) -> None:
        """An answer of 400 or more has come, of which the upstream may want to have notice taken."""
        if self._hedging is not None:
            self._hedging.heard(response, now)

    # How a hedge begins and ends.

    def _late(self, attempt: Attempt, due: float = _NEVER) -> None:
        """The time for an answer has passed, at `due`. A timer calls it, which hears of no defect: the request goes on
        without a hedge then."""
        self._hedge_timer = None
        guarded(self.ticket, partial(self._consider_hedge, attempt, due), self._stop_hedge)

    def _stop_hedge(self) -> None:
        """It cannot go on. The first attempt can."""
        hedge = self._hedge
        if hedge is not None:
            hedge.attempt.cancel(client_left=False)
            self.hedge_failed()

    def _consider_hedge(self, attempt: Attempt, due: float) -> None:
        """Make one, unless something speaks against it. After a stall it is first read what has come."""
        hedging, ticket, now = self._hedging, self.ticket, time.monotonic()
        if hedging is None or attempt is not self._attempt or attempt.streaming or self._ended:
            return
        if now - due > STALL:
            self._hedge_timer = self.runtime.loop.call_later(STALL, self._late, attempt)
            return
        obstacle = hedging.obstacle(ticket, ticket.attempts - self._attempts_before, self.total_deadline, now)
        if not obstacle:
            endpoint = self.target.upstream.balancer.pick(now, (*self.tried, attempt.endpoint))
            obstacle = hedging.obstacle_at(endpoint, now)
            if not obstacle and endpoint is not None:
                self._make_hedge(hedging, endpoint, now)
                return
        hedging.not_made[obstacle] += 1
        ticket.note("hedge", obstacle)

    def _make_hedge(self, hedging: Hedging, endpoint: Endpoint, now: float) -> None:
        self.traced()
        self._hedged = True
        self._hedge = hedge = Hedge(self, hedging, endpoint, now)
        self.ticket.attempts += 1
        self.downstream = Line(self, self.downstream, first=True)
        hedge.attempt.start(fresh=False)

    def _first_failed(self) -> None:
        """The first attempt came to nothing, and is settled. The hedge is the request's attempt now."""
        hedge, first = self._hedge, self._attempt
        if hedge is not None and first is not None:
            self.tried = (*self.tried, first.endpoint)
            first.end()
            self._put_in_place(hedge, time.monotonic())
            self._remaining = WON

    def _put_in_place(self, hedge: Hedge, now: float) -> None:
        """The first attempt is over: the hedge takes its place."""
        ticket, other = self.ticket, hedge.ticket
        self._attempt = attempt = hedge.attempt
        attempt.belong_to(self)
        ticket.endpoint = other.endpoint
        ticket.sent = ticket.sent or other.sent
        ticket.unanswered = False
        trace = ticket.trace
        if trace is not None and other.trace is not None:
            trace.present = other.trace.present
        if hedge.entered:
            # The gates that are passed before each attempt are the same, but for the last, which counts no hedges.
            ticket.permit, other.permit = other.permit, None
            other.entered = hedge.chain.per_attempt
            ticket.at = ticket.entered = len(self.chain.gates) - 1
            # The time of the first attempt goes up to now, and this one will count from its own beginning.
            ticket.upstream_seconds -= max(0.0, now - attempt.sent_at)
        self._let_go(hedge)

    def _let_go(self, hedge: Hedge) -> None:
        """Only one attempt is left: the request's own places are enough for it."""
        self._hedge = None
        ticket, other = self.ticket, hedge.ticket
        line = self.downstream
        if isinstance(line, Line):
            self.downstream = line.to
        if other.log_decisions:
            ticket.log_decisions = {**ticket.log_decisions, **other.log_decisions}
        if other.answered_badly:
            ticket.answered_badly = other.answered_badly
        other.now = time.monotonic()
        hedge.chain.leave(other, IGNORED, 0.0)

    def _remaining_ended(self, result: str) -> None:
        """The attempt that was left of two has ended, or something else has ended it."""
        if self._remaining:
            self._settle_hedge(result)

    def _settle_hedge(self, result: str) -> None:
        """Once for each hedge: count what came of it."""
        self._remaining = ""
        self.ticket.note("hedge", result)
        if self._hedging is not None:
            self._hedging.results[result] += 1

    def _passed_over_for_hedge(self, response: Response, now: float) -> bool:
        """Whether an answer of 400 or more is passed over because the hedge runs."""
        self.heard(response, now)
        if not self.says_nothing(response.status):
            return False
        self._remaining_ended(FAILED)
        return self._hedge is not None

    def _stop_hedge_timer(self) -> None:
        timer, self._hedge_timer = self._hedge_timer, None
        if timer is not None:
            timer.cancel()

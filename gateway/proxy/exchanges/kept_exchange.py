"""An exchange whose answer is kept for the repetition of its request (`gateway.proxy.gates.idempotency`).

    claimed ──▶ forwarded ──▶ the answer is written to the journal ──▶ its end goes to the client

The last bytes of an answer wait until it is written: whoever has read an answer to its end gets the same one for the
same key, at once and from every replica. If the journal cannot write it, the client gets it all the same.

Once its request has come whole, such an exchange goes on when its client leaves, until the answer is there or the total
deadline has passed: the client will ask for it.

What is written follows from how it ended:

    2xx, 3xx, 4xx                                   the answer, or its status where it is too large to be kept
    401, 408, 421, 425, 429                         released: nothing was done
    nothing sent; half a request                    likewise
    4xx to half a request                           likewise
    409, where the upstream honours keys            likewise: it keeps the answer itself, once there is one
    5xx, no answer, half an answer                  unknown
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.idempotency.claims import Claims
from gateway.idempotency.promise import Claim
from gateway.journal.idempotency import Kept
from gateway.policy.outcome import Outcome
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.answers.stored_answer import is_kept, is_undone, kept_fields
from gateway.proxy.defects import guarded
from gateway.proxy.exchanges.exchange import Exchange
from gateway.proxy.routes.plan import Plan
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.wire.message.request import RequestError
from gateway.wire.message.response import Framing, Response
from gateway.wire.nobody import Nobody
from gateway.wire.ports import Connection

_CONFLICT: Final = 409


def _nothing() -> None:
    """Nobody waits for this ending."""


class KeptExchange(Exchange):
    """Made for a request with a key on a route that keeps answers of at most `most` bytes. Without a claim (no key that
    counts, or no journal) it is an exchange like any other."""

    __slots__ = ("_claims", "_ending", "_head", "_left", "_most", "_pieces", "_size", "_timer", "_unsent")

    def __init__(
        self, runtime: Runtime, connection: Connection, plan: Plan, ticket: Ticket, claims: Claims, most: int
    ) -> None:
        super().__init__(runtime, connection, plan, ticket)
        self._claims = claims
        self._most = most
        # The header lines that are kept, None while nothing is; then the pieces of the body and their size.
        self._head: bytes | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        # Bytes of the body to come where its length is known: the last piece is held back.
        self._left = -1
        self._unsent = b""
        # What is to be done when the ending is written; not None while it is being written.
        self._ending: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def _claim(self) -> Claim | None:
        """The claim that is still to be settled."""
        promise = self.ticket.promise
        claim = None if promise is None else promise.claim
        return None if claim is None or claim.settled else claim

    # The request.

    def request_body(self, data: bytes) -> None:
        promise = self.ticket.promise
        if promise is not None:
            promise.content.update(data)
            if promise.drained is not None:
                self._drain(data)
                return
        super().request_body(data)

    def request_end(self) -> None:
        super().request_end()
        promise = self.ticket.promise
        if promise is not None and promise.drained is not None:
            promise.drained()

    def waits(self) -> None:
        """A repetition is read to its end, although nothing of it is kept."""
        promise = self.ticket.promise
        if self.finished or promise is None or promise.drained is None:
            super().waits()
            return
        self.body.held.clear()
        self.send_continue()
        self.want_body(True)

    def _drain(self, data: bytes) -> None:
        held = self.body.held
        super().request_body(data)
        held.clear()
        if not self.finished:
            self.want_body(True)

    def request_failed(self, error: RequestError) -> None:
        if self._hurried():
            return
        if self._claim is not None and self.ticket.complete:
            # It is the answer that its client takes too slowly. The connection ends, and the answer is still wanted.
            self._go_on_alone()
            self.ticket.reason = error.reason
        else:
            super().request_failed(error)

    def gateway_stops(self) -> None:
        if not self._hurried():
            super().gateway_stops()

    def client_gone(self) -> None:
        if self.finished or self in self.runtime.alone:
            return
        claim = self._claim
        if self._ending is not None or (claim is not None and self.ticket.complete):
            self._go_on_alone()
            return
        if claim is not None and self.responded:
            self._claims.unknown(claim, _nothing)
        super().client_gone()

    # The answer.

    def respond(self, response: Response) -> None:
        super().respond(response)
        if self._claim is None or not self._keeps(response):
            return
        if response.framing is Framing.LENGTH:
            self._left = response.length
            if response.length > self._most:
                self._keep_status_alone()

    def respond_body(self, data: bytes) -> None:
        if self._head is not None:
            self._size += len(data)
            self._left -= len(data)
            if self._size > self._most:
                self._keep_status_alone()
            else:
                self._pieces.append(data)
                if self._left == 0:
                    self._unsent = data
                    return
        super().respond_body(data)

    def respond_end(self) -> None:
        claim = self._claim
        if claim is None:
            self._end_of_answer()
        else:
            self._settle(claim, self.ticket.status, self._end_of_answer)

    def respond_whole(self, response: Response, body: bytes, now: float) -> None:
        claim = self._claim
        if claim is None:
            super().respond_whole(response, body, now)
            return
        if self._keeps(response) and len(body) <= self._most:
            self._pieces.append(body)
        else:
            self._head = None
        self._settle(claim, response.status, partial(self._whole, response, body))

    def answer_itself(self, content: OwnAnswer) -> None:
        """A gate has done what was asked (gateway.proxy.gates.deliver): its answer is the one that is repeated."""
        claim = self._claim
        if claim is None:
            super().answer_itself(content)
            return
        self._head = content.fields
        self._pieces.append(content.body)
        self._settle(claim, content.status, partial(Exchange.answer_itself, self, content))

    def refuse(self, refusal: Refusal) -> None:
        claim = self._claim
        if claim is None:
            super().refuse(refusal)
            return
        self._unanswered(claim, partial(Exchange.refuse, self, refusal))

    def substitute(self, content: OwnAnswer) -> None:
        """It is not what the request has led to, so no repetition gets it."""
        claim = self._claim
        if claim is None:
            super().substitute(content)
        else:
            self._unanswered(claim, partial(Exchange.answer_itself, self, content))

    def _unanswered(self, claim: Claim, then: Callable[[], None]) -> None:
        """There is no answer of an upstream: whether the request was carried out is known only if nothing was sent."""
        self._ending = then
        ticket = self.ticket
        if ticket.sent and ticket.complete:
            self._claims.unknown(claim, self._settled)
        else:
            self._claims.release(claim, self._settled)

    def _break_off(self, reason: str) -> None:
        claim = self._claim
        if claim is not None:
            self._claims.unknown(claim, _nothing)
        super()._break_off(reason)

    # Keeping.

    def _keeps(self, response: Response) -> bool:
        """Whether the answer is one to be kept; its head is, then. A body that filters rewrite is not."""
        filters = self._route.filters
        if not is_kept(response.status) or self._is_undone(response.status) or filters.bodies:
            return False
        self._head = kept_fields(filters.changed(self.ticket, response))
        return True

    def _is_undone(self, status: int) -> bool:
        """Whether this answer settles nothing. A 409 may say that the first request with the key is still under way
        (draft-ietf-httpapi-idempotency-key-header-07 section 2.7): only an upstream that honours keys can mean that,
        and it may be asked again."""
        return is_undone(status) or (status == _CONFLICT and self._route.honours_keys)

    def _keep_status_alone(self) -> None:
        """The answer turns out to be too large. That is written at once: it may go on for long."""
        self._head = None
        self._pieces.clear()
        claim = self._claim
        if claim is not None and self.ticket.complete:
            self._claims.finish(claim, self._kept(self.ticket.status), _nothing)

    def _kept(self, status: int) -> Kept:
        promise, head = self.ticket.promise, self._head
        assert promise is not None  # noqa: S101 - there is a claim
        return Kept(promise.content.digest(), status, head, None if head is None else b"".join(self._pieces))

    def _settle(self, claim: Claim, status: int, then: Callable[[], None]) -> None:
        """Write how it ended, then do the rest."""
        self._ending = then
        claims, settled = self._claims, self._settled
        complete = self.ticket.complete
        if self._is_undone(status) or (400 <= status < 500 and not complete):
            # An upstream that refuses a request before it has all of it has done nothing.
            claims.release(claim, settled)
        elif is_kept(status) and complete:
            claims.finish(claim, self._kept(status), settled)
        else:
            # What the rest of the request would have been is not known, so no repetition can be told from another one.
            claims.unknown(claim, settled)

    def _settled(self) -> None:
        """The journal calls it, which hears of no defect."""
        ending, self._ending = self._ending, None
        if ending is not None and not self.finished:
            guarded(self.ticket, ending, self.failed)

    def _hurried(self) -> bool:
        """End now if only the journal was waited for; whether it was."""
        waited = self._ending is not None
        self._settled()
        return waited

    def _end_of_answer(self) -> None:
        unsent, self._unsent = self._unsent, b""
        if unsent:
            Exchange.respond_body(self, unsent)
        Exchange.respond_end(self)

    def _whole(self, response: Response, body: bytes) -> None:
        Exchange.respond_whole(self, response, body, time.monotonic())

    # Without the client.

    def _go_on_alone(self) -> None:
        """The client has left; the answer is still wanted."""
        runtime, ticket = self.runtime, self.ticket
        runtime.recorder.client_closed()
        ticket.reason = "client_closed"
        self.connection = nobody = Nobody()
        if self._answer is not None:
            self._answer.go_to(nobody)
        runtime.alone.add(self)
        forward = self._forward
        left = self._route.total_timeout
        if forward is not None:
            left = max(0.0, forward.last_deadline - time.monotonic())
        self._timer = runtime.loop.call_later(left, self._too_late)
        self.resume_answer()

    def _too_late(self) -> None:
        self._timer = None
        if not self.finished and not self._hurried():
            self._cancel()
            self._break_off("upstream_timeout")

    def _leave(self, outcome: Outcome, now: float) -> None:
        super()._leave(outcome, now)
        self.runtime.alone.discard(self)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

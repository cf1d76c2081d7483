"""Gates that keep a request in the journal and answer it themselves, in place of sending it on: the outbox, workflows.

    body too large          413 `body_too_large`
    too many are kept       503, with the reason of the gate
    no journal              503 `journal_unavailable`
    in the journal          the gate's own answer

Such a gate is the last one of its route, in place of bulkhead and circuit: those are asked when something is sent. It
lets no request pass.

Where the request has an idempotency key, its answer is kept in the same commit: there is no moment at which the one is
in the journal and the other is not.

Once a request is on its way to the journal it cannot be taken back: if its client leaves before the answer, it may be
carried out all the same.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from gateway.idempotency.claims import ClaimLost, Claims
from gateway.idempotency.promise import Claim
from gateway.journal.depth import Depth
from gateway.journal.idempotency import Kept
from gateway.journal.port import Journal, JournalUnavailable, Operation
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusals import Refusal, jittered
from gateway.proxy.gate import WAIT, Gate, Resume, Verdict
from gateway.proxy.ticket import Ticket

_FULL_PAUSE: Final = 5.0
_TAKEN_OVER: Final = Refusal(
    409, "idempotency_key_in_progress", "another request with this key has been taken up meanwhile", 1
)
OUTCOMES: Final = ("accepted", "too_large", "full", "unavailable")
"""What becomes of a request at such a gate; a gate may have others."""


class Waiting:
    """A request at the gate; `gone` when it has ended there."""

    __slots__ = ("gone", "resume")

    def __init__(self, resume: Resume) -> None:
        self.resume = resume
        self.gone = False


class Entry:
    """What is to be kept for a request. `operation` writes it; `answer` is given then. `label` is what the access log
    calls it, and `record_id` its id. `starter` is whatever the gate needs when it is kept. `size` in bytes, where they
    are limited."""

    __slots__ = ("answer", "label", "operation", "record_id", "size", "starter")

    def __init__(
        self,
        record_id: str,
        label: str,
        operation: Operation[None],
        answer: OwnAnswer,
        starter: object = None,
        size: int = 0,
    ) -> None:
        self.record_id = record_id
        self.label = label
        self.operation = operation
        self.answer = answer
        self.starter = starter
        self.size = size


class JournalGate(Gate):
    """That of one route. `most` is the largest body, in bytes, of which `too_large` tells; `full_reason` and
    `full_detail` are told where there is no room. `origin` gives a line that is kept in front of header lines, so that
    what is sent later has a link to the trace of the request. `counts` is by outcome."""

    def __init__(
        self,
        journal: Journal,
        depth: Depth[Any],
        claims: Claims | None,
        rng: random.Random,
        most: int,
        too_large: str,
        full_reason: str,
        full_detail: str,
        origin: Callable[[Ticket], bytes],
        outcomes: tuple[str, ...] = OUTCOMES,
    ) -> None:
        self.counts = dict.fromkeys(outcomes, 0)
        self.depth = depth
        self.rng = rng
        self.origin = origin
        self._journal = journal
        self._claims = claims
        self._most = most
        self._full_reason = full_reason
        self._full_detail = full_detail
        self._too_large = Refusal(413, "body_too_large", too_large, close=True)

    def entry(self, ticket: Ticket, body: bytes) -> Entry | Refusal:
        """What is to be kept of a request, or why it cannot be."""
        raise NotImplementedError("every kind has its own")  # pragma: no cover - each gate overrides it

    def kept(self, ticket: Ticket, waiting: Waiting, entry: Entry) -> None:
        """It is in the journal: answer it."""
        if not waiting.gone:
            waiting.resume(entry.answer)

    def not_kept(self, entry: Entry) -> None:
        """It could not be written, or nobody can tell whether it was."""

    def full(self) -> Refusal:
        """The refusal of a request for which there is no room."""
        return Refusal(503, self._full_reason, self._full_detail, jittered(_FULL_PAUSE, self.rng))

    def check(self, ticket: Ticket) -> Verdict:
        """Refuses what is too large or has no room before its body is read."""
        length = ticket.request.fields.length
        if length is not None and length > self._most:
            self.counts["too_large"] += 1
            return self._too_large
        if self.depth.full:
            self.counts["full"] += 1
            return self.full()
        return WAIT

    def start(self, ticket: Ticket, resume: Resume) -> None:
        body = ticket.body
        assert body is not None  # noqa: S101 - a request that waits has an exchange
        ticket.waiting = waiting = Waiting(resume)
        body.collect(self._most, partial(self._collected, ticket, waiting))

    def abandon(self, ticket: Ticket) -> None:
        if isinstance(ticket.waiting, Waiting):
            ticket.waiting.gone = True

    def _collected(self, ticket: Ticket, waiting: Waiting, body: bytes | None) -> None:
        if waiting.gone:
            return
        if body is None:
            self.counts["too_large"] += 1
            waiting.resume(self._too_large)
            return
        entry = self.entry(ticket, body)
        if isinstance(entry, Refusal):
            self.counts["invalid"] += 1
            waiting.resume(entry)
            return
        self.depth.added(entry.size)
        operation, claim, claims = entry.operation, _claim_of(ticket), self._claims
        if claim is not None and claims is not None and ticket.promise is not None:
            answer = entry.answer
            content = Kept(ticket.promise.content.digest(), answer.status, answer.fields, answer.body)
            operation = claims.ended_with(claim, content, operation)
        else:
            claim = None
        done = self._journal.transact(operation)
        done.add_done_callback(partial(self._written, ticket, waiting, entry, claim))

    def _written(
        self, ticket: Ticket, waiting: Waiting, entry: Entry, claim: Claim | None, written: "asyncio.Future[None]"
    ) -> None:
        why = None if written.cancelled() else written.exception()
        if why is None and not written.cancelled():
            self.counts["accepted"] += 1
            if claim is not None and self._claims is not None:
                self._claims.ended(claim)
            ticket.note(entry.label, entry.record_id)
            self.kept(ticket, waiting, entry)
            return
        self.not_kept(entry)
        if isinstance(why, ClaimLost):
            if not waiting.gone:
                waiting.resume(_TAKEN_OVER)
            return
        self.counts["unavailable"] += 1
        unsure = not isinstance(why, JournalUnavailable) or why.unsure
        # As when an upstream may have acted on a request: whoever keeps promises about it must know.
        ticket.sent = ticket.sent or unsure
        if not waiting.gone:
            trouble = why.trouble if isinstance(why, JournalUnavailable) else "failed"
            detail = f"the journal cannot be used ({trouble})"
            waiting.resume(Refusal(503, "journal_unavailable", detail, jittered(1.0, self.rng)))


def _claim_of(ticket: Ticket) -> Claim | None:
    promise = ticket.promise
    claim = None if promise is None else promise.claim
    return None if claim is None or claim.settled else claim

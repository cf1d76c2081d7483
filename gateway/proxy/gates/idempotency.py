"""Idempotency keys: a request with a key is carried out once, and repeated requests get its answer.

Two gates, one behind the other. The first one claims the key (`IdempotencyGate`). Where an earlier request has
finished, the second one reads the body of the repetition, which it keeps nowhere, and compares what it asks for with
what the first one asked for (`ReplayGate`); then the stored answer is the answer.

    no key         passes, or 400 `idempotency_key_missing` where the route requires one
    malformed      400 `idempotency_key_malformed`
    claimed        passes; `leave` gives the claim back unless the exchange has settled it
    running        waits up to `wait` seconds, then 409 `idempotency_key_in_progress`
    unknown        409 `idempotency_outcome_unknown`; the route's `on_unknown: retry` claims it instead
    finished       the stored answer; 422 `idempotency_key_reused` for another request, 409
                   `idempotency_answer_not_kept` where only the status was kept
    no journal     503 `journal_unavailable`, or passes without a promise (`on_store_failure: open`)
"""

import asyncio
import random
import re
import time
from collections.abc import Callable
from functools import partial
from typing import ClassVar, Final

from gateway.config.sections.idempotency.model import IdempotencyConfig
from gateway.idempotency.claims import FULL, Ask, Claims, Outcome
from gateway.idempotency.keys import content_hash, parse_key, record_key
from gateway.idempotency.promise import Claim, Promise
from gateway.journal.idempotency import Found
from gateway.journal.port import JournalUnavailable
from gateway.policy.outcome import Outcome as Ending
from gateway.proxy.answers.refusals import Refusal, jittered
from gateway.proxy.answers.stored_answer import StoredAnswer, is_kept
from gateway.proxy.gate import PASS, WAIT, Gate, Question, Resume, Step, Verdict, step
from gateway.proxy.ticket import Ticket
from gateway.wire.message.fields import FieldError

_CONTENT_TYPE: Final = re.compile(rb"^content-type:([^\r\n]*)", re.IGNORECASE | re.MULTILINE)
# A claim outlasts the total deadline of its request by this much, so that the end of the request is written in time.
_MARGIN: Final = 5.0
_MISSING: Final = Refusal(400, "idempotency_key_missing", "the route needs an Idempotency-Key")
_MALFORMED: Final = Refusal(
    400, "idempotency_key_malformed", "Idempotency-Key is not one key of 1 to 255 visible ASCII characters"
)
_UNKNOWN: Final = Refusal(
    409,
    "idempotency_outcome_unknown",
    "an earlier request with this key may have been carried out, and its answer is not known",
)
_REUSED: Final = Refusal(
    422, "idempotency_key_reused", "an earlier request with this key had another method, host, target, type or body"
)
OUTCOMES: Final = (
    *("new", "replayed", "in_progress", "reused", "unknown", "not_kept"),
    *("missing", "malformed", "full", "unavailable", "unprotected"),
)
"""What becomes of a request for which the route looks at keys, as `idempotency_requests_total` counts it."""


def _nothing() -> None:
    """Nobody waits for this ending."""


class _Asking:
    """A request that waits at the gate. `since` is when it began to wait for another one's answer, 0 for not yet."""

    __slots__ = ("ask", "gone", "promise", "resume", "since", "take_back")

    def __init__(self, ask: Ask, promise: Promise, resume: Resume) -> None:
        self.ask = ask
        self.promise = promise
        self.resume = resume
        self.since = 0.0
        self.gone = False
        self.take_back: Callable[[], None] = _nothing


class IdempotencyGate(Gate):
    """The keys of one route. `counts` is by outcome; answers of at most `most` bytes are kept. `by_host`: the upstream
    is told which host the client means, so that a request to another one is another request."""

    name: ClassVar[str] = "idempotency"
    holds: ClassVar[bool] = True

    def __init__(
        self,
        route: str,
        config: IdempotencyConfig,
        total_timeout: float,
        claims: Claims,
        rng: random.Random,
        loop: asyncio.AbstractEventLoop,
        *,
        by_host: bool,
    ) -> None:
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self.claims = claims
        self.most = config.max_response_bytes
        self._route = route
        self._config = config
        self._by_host = by_host
        self._lease = total_timeout + _MARGIN
        self._rng = rng
        self._loop = loop

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        request, config = ticket.request, self._config
        if request.method not in config.methods:
            return PASS
        field = request.fields.idempotency_key
        if field is None:
            if not config.required:
                return PASS
            self.counts["missing"] += 1
            return _MISSING
        if parse_key(field) is None:
            self.counts["malformed"] += 1
            return _MALFORMED
        return WAIT

    def start(self, ticket: Ticket, resume: Resume) -> None:
        request, config = ticket.request, self._config
        key = parse_key(request.fields.idempotency_key or b"")
        assert key is not None  # noqa: S101 - `check` has seen to it
        found = _CONTENT_TYPE.search(request.fields.lines)
        host = request.host if self._by_host else b""
        content = content_hash(request.method, host, request.target, found[1].strip(b" \t") if found else b"")
        if ticket.body is not None:
            # What has come while a gate before this one was waited for.
            for piece in ticket.body.held:
                content.update(piece)
        promise = ticket.promise = Promise(content)
        ask = Ask(
            record_key(self._route, *self._who(ticket), key),
            self._route,
            self._lease,
            config.ttl,
            config.on_unknown == "retry",
        )
        ticket.waiting = asking = _Asking(ask, promise, resume)
        self.claims.claim(ask, partial(self._told, ticket, asking))

    def abandon(self, ticket: Ticket) -> None:
        """A claim that is on its way cannot be taken back: it is released when it comes."""
        asking = ticket.waiting
        if isinstance(asking, _Asking):
            asking.gone = True
            asking.take_back()

    def leave(self, ticket: Ticket, outcome: Ending, seconds: float) -> None:
        """Whoever has carried the request has settled its claim; what is left is a request that broke off."""
        promise = ticket.promise
        claim = None if promise is None else promise.claim
        if claim is None or claim.settled:
            return
        if ticket.sent and ticket.complete:
            self.claims.unknown(claim, _nothing)
        else:
            self.claims.release(claim, _nothing)

    def describe(self) -> dict[str, object]:
        """The settings of the route."""
        config = self._config
        return {
            "mode": "required" if config.required else "optional",
            "methods": sorted(config.methods),
            "ttl": config.ttl,
            "wait": config.wait,
            "scope": config.scope,
            "on_unknown": config.on_unknown,
            "on_store_failure": config.on_store_failure,
        }

    async def explain(self, question: Question) -> Step:
        config = self._config
        if question.method not in config.methods:
            return step(self.name, "allow", f"Keys are looked at for {', '.join(sorted(config.methods))}.")
        without = "refused with 400" if config.required else "passed"
        return step(
            self.name, "none", f"A request with an Idempotency-Key is carried out once. One without it is {without}."
        )

    def _who(self, ticket: Ticket) -> tuple[str, str]:
        """Whose keys they are, and what that is."""
        caller = ticket.caller
        if caller is None:
            return "address", ticket.client
        if self._config.scope == "tenant" and caller.tenant:
            return "tenant", caller.tenant
        return "consumer", f"{caller.tenant}/{caller.consumer}"

    def _told(self, ticket: Ticket, asking: _Asking, outcome: Outcome) -> None:
        if isinstance(outcome, Claim):
            asking.promise.claim = outcome
            self.counts["new"] += 1
            # If the request has ended meanwhile, this leads to `leave`.
            asking.resume(PASS)
        elif asking.gone:
            return
        elif isinstance(outcome, Found):
            self._found(ticket, asking, outcome)
        elif outcome is FULL:
            self._refuse(asking, "full", 503, "idempotency_full", "there is no room for another key")
        elif self._config.on_store_failure == "open":
            self.counts["unprotected"] += 1
            ticket.note("idempotency", "unprotected")
            asking.resume(PASS)
        else:
            assert isinstance(outcome, JournalUnavailable)  # noqa: S101 - the one that is left
            self._refuse(
                asking, "unavailable", 503, "journal_unavailable", f"the journal cannot be used ({outcome.trouble})"
            )

    def _found(self, ticket: Ticket, asking: _Asking, found: Found) -> None:
        """Another request has the key, or had it."""
        if found.state == "finished":
            asking.promise.found = found
            asking.resume(PASS)
        elif found.state == "unknown":
            self.counts["unknown"] += 1
            asking.resume(_UNKNOWN)
        else:
            now = time.monotonic()
            asking.since = asking.since or now
            waited = now - asking.since
            if waited < self._config.wait:
                again = partial(self._again, ticket, asking)
                asking.take_back = self.claims.look_again(asking.ask.key, waited, again)
            else:
                detail = "an earlier request with this key is still under way"
                self._refuse(asking, "in_progress", 409, "idempotency_key_in_progress", detail)

    def _again(self, ticket: Ticket, asking: _Asking) -> None:
        self.claims.claim(asking.ask, partial(self._told, ticket, asking))

    def _refuse(self, asking: _Asking, outcome: str, status: int, reason: str, detail: str) -> None:
        self.counts[outcome] += 1
        asking.resume(Refusal(status, reason, detail, jittered(1.0, self._rng)))


class ReplayGate(Gate):
    """Answers a request whose key belongs to one that has finished. `counts` is that of the gate before it."""

    name: ClassVar[str] = "replay"

    def __init__(self, counts: dict[str, int]) -> None:
        self._counts = counts

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        promise = ticket.promise
        return PASS if promise is None or promise.found is None else WAIT

    def start(self, ticket: Ticket, resume: Resume) -> None:
        promise = ticket.promise
        assert promise is not None  # noqa: S101 - `check` has seen to it
        if ticket.complete:
            resume(self._compared(promise))
        else:
            promise.drained = lambda: resume(self._compared(promise))

    def abandon(self, ticket: Ticket) -> None:
        if ticket.promise is not None:
            ticket.promise.drained = None

    async def explain(self, question: Question) -> Step:
        return step(self.name, "none", "A request that repeats a finished one gets its answer.")

    def _compared(self, promise: Promise) -> Refusal | StoredAnswer:
        found = promise.found
        assert found is not None  # noqa: S101 - `check` has seen to it
        promise.drained = None
        if found.content != promise.content.digest():
            self._counts["reused"] += 1
            return _REUSED
        if not is_kept(found.status):
            # It is damaged: no answer has been kept with such a status.
            self._counts["unknown"] += 1
            return _UNKNOWN
        if not found.whole:
            self._counts["not_kept"] += 1
            return _not_kept(found.status)
        try:
            answer = StoredAnswer(found.status, found.head, found.body)
        except FieldError:
            # It is damaged.
            self._counts["not_kept"] += 1
            return _not_kept(found.status)
        self._counts["replayed"] += 1
        return answer


def _not_kept(status: int) -> Refusal:
    detail = f"the earlier request with this key was answered with {status}; its answer was not kept"
    return Refusal(409, "idempotency_answer_not_kept", detail, members={"original_status": status})

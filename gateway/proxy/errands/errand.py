"""One request of the gateway's own on its way: the step of a workflow, the delivery of a message.

It goes the way of every request from the bulkhead of its upstream on: circuit, balancer, pools, time limits, retries of
what was not sent. Its attempts are counted like any other.

    queued at the bulkhead, the circuit ──▶ attempt ──▶ Answered     a whole answer, or as much of it as is kept
                 │                             │
                 └─────────────────────────────┴──────▶ Unanswered   why; `sent` says whether it may have been acted on
"""

import time
from collections.abc import Callable
from typing import NamedTuple

from gateway.policy.outcome import FAILURE, IGNORED, SUCCESS, Outcome
from gateway.policy.retry import parse_retry_after
from gateway.proxy.answers.refusals import DEFECT, Refusal
from gateway.proxy.forward.downstream import Downstream
from gateway.proxy.forward.retries import Forward
from gateway.proxy.forward.target import Target
from gateway.proxy.gate import PASS, WAIT, Chain, Resumption
from gateway.proxy.gates.passage import NEVER, Passage
from gateway.proxy.requests.body import NO_BODY, RequestBody
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.reasons import UPSTREAM_REASONS
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.message.response import Response


class Answered(NamedTuple):
    """The upstream has answered. `retry_after` in seconds, None where it says none. `whole` says that `body` is all of
    the answer's."""

    status: int
    body: bytes
    retry_after: float | None
    whole: bool


class Unanswered(NamedTuple):
    """There is no answer. `reason` is one of `gateway.reasons`. `sent`: a byte of the request has gone out, so that the
    upstream may have acted on it. `retry_after` in seconds, None where nothing is known."""

    reason: str
    detail: str
    retry_after: float | None
    sent: bool

    @property
    def held_back(self) -> bool:
        """Whether the gateway itself has sent nothing, to protect the upstream or because it stops: no attempt."""
        return not self.sent and self.reason not in UPSTREAM_REASONS


Outcomes = Answered | Unanswered


class Errand(Downstream):
    """Sends the request of `ticket`, whose body is `body`, and calls `done` once with what came of it. At most `keep`
    bytes of the answer's body are kept, and at most `most` are read, -1 for no more than are kept. An answer that is
    longer is broken off. Whoever makes it has a time limit for it, and breaks it off then."""

    __slots__ = (
        *("_body", "_chain", "_deadlines", "_done", "_forward", "_keep", "_most"),
        *("_over", "_passage", "_received", "_response", "_ticket"),
    )

    def __init__(
        self,
        runtime: Runtime,
        ticket: Ticket,
        target: Target,
        chain: Chain,
        body: bytes,
        keep: int,
        done: Callable[[Outcomes], None],
        most: int = -1,
    ) -> None:
        self._ticket = ticket
        self._chain = chain
        self._deadlines = runtime.deadlines
        self._keep = keep
        self._most = most if most >= 0 else keep
        self._received = 0
        self._done = done
        self._over = False
        self._body: list[bytes] = []
        self._response: Response | None = None
        self._passage: Passage | None = None
        ticket.body = _arrived(body)
        self._forward = Forward(runtime, ticket, target, ticket.body, self, chain, idempotent=False)

    def start(self) -> None:
        """Ask the gates, and send it. `done` may be called from within."""
        verdict = self._chain.admit(self._ticket)
        if verdict is WAIT:
            self._passage = passage = Passage(
                self._chain, self._ticket, self._passed, self.waits, self.failed, self._deadlines, NEVER
            )
            passage.wait()
        elif isinstance(verdict, Refusal):
            self.refuse(verdict)
        else:
            self._forward.begin(self._ticket.now)

    def break_off(self) -> None:
        """Nobody waits for it any more; `done` is not called. Idempotent."""
        if self._over:
            return
        passage, self._passage = self._passage, None
        try:
            if passage is not None:
                passage.abandon()
            # As of a client that leaves: one that has waited for long has seen that the upstream hangs.
            self._forward.cancel(client_left=True)
        finally:
            # After a defect, too.
            self._leave(IGNORED)

    def _passed(self, verdict: Resumption) -> None:
        self._passage = None
        if verdict is PASS:
            self._forward.begin(self._ticket.now)
        else:
            # What protects an upstream has no answers of its own.
            assert isinstance(verdict, Refusal)  # noqa: S101
            self.refuse(verdict)

    def _leave(self, outcome: Outcome) -> None:
        self._over = True
        ticket = self._ticket
        ticket.now = now = time.monotonic()
        self._chain.leave(ticket, outcome, now - ticket.started)

    def _answered(self, *, whole: bool) -> None:
        response, ticket = self._response, self._ticket
        assert response is not None  # noqa: S101 - the head comes first
        value = response.fields.retry_after
        retry_after = parse_retry_after(value, time.time()) if value is not None else None
        failed = ticket.answered_badly and ticket.answered_badly == response.status
        self._leave(FAILURE if failed else SUCCESS)
        self._done(Answered(response.status, b"".join(self._body)[: self._keep], retry_after, whole))

    def _unanswered(self, reason: str, detail: str, retry_after: float | None) -> None:
        self._leave(FAILURE if reason in UPSTREAM_REASONS else IGNORED)
        self._done(Unanswered(reason, detail, retry_after, self._ticket.sent))

    # What the forwarder tells (gateway.proxy.forward.downstream).

    def want_body(self, wanted: bool) -> None:
        """All of it is here."""

    def waits(self) -> None:
        """Nobody is to be held back meanwhile."""

    def failed(self) -> None:
        if not self._over:
            self._forward.cancel()
            self.refuse(DEFECT)

    def send_continue(self) -> None:
        """Nobody waits for it."""

    @property
    def client_blocked(self) -> bool:
        return False

    def informational(self, response: Response) -> None:
        """Nobody wants to know."""

    def respond(self, response: Response) -> None:
        self._response = response

    def respond_body(self, data: bytes) -> None:
        if self._received < self._keep:
            self._body.append(data)
        self._received += len(data)
        if self._received > self._most:
            # The status has said what there is to know, and an answer may have no end.
            self._forward.cancel()
            self._answered(whole=False)

    def respond_pause(self) -> None:
        """Nothing is written on."""

    def respond_end(self) -> None:
        self._answered(whole=self._received <= self._keep)

    def respond_whole(self, response: Response, body: bytes, now: float) -> None:
        self._response = response
        self._body.append(body)
        self._answered(whole=len(body) <= self._keep)

    def truncated(self, reason: str, detail: str) -> None:
        self._unanswered(reason, detail, None)

    def refuse(self, refusal: Refusal) -> None:
        self._unanswered(refusal.reason, refusal.detail, refusal.retry_after)

    def may_tunnel(self, response: Response) -> bool:
        return False

    def open_tunnel(self, response: Response, upstream: UpstreamConnection, early: bytes) -> None:
        raise RuntimeError("no tunnel was asked for")  # pragma: no cover - `may_tunnel` says no


def _arrived(octets: bytes) -> RequestBody:
    """A body of which nothing is still to come."""
    if not octets:
        return NO_BODY
    body = RequestBody(len(octets), done=True)
    body.received = len(octets)
    body.held.append(octets)
    return body

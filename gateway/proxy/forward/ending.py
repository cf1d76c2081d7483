"""How an attempt ends: settled exactly once, and told to whoever has to know."""

import time
from typing import Final

from gateway.fleet.circuits import UNCOUNTED
from gateway.policy.outcome import FAILURE, IGNORED, Outcome
from gateway.policy.retry import Failure
from gateway.proxy.forward.owner import Owner
from gateway.proxy.upstreams.upstream import Endpoint
from gateway.wire.client.response_sink import ResponseSink

# Of `attempt_timeout`: a client that has waited this long in vain has seen that the upstream hangs.
_HUNG_SHARE: Final = 0.5


class Ending(ResponseSink):
    """The part of an attempt (`gateway.proxy.forward.attempt`) that settles it. `endpoint` is where it is made."""

    __slots__ = ("_head_at", "_owner", "_reached", "_sent_at", "_settled", "endpoint")

    # Set by `Attempt`.
    _owner: Owner
    endpoint: Endpoint
    _sent_at: float
    _head_at: float
    _reached: bool
    _settled: bool

    def belong_to(self, owner: Owner) -> None:
        """From here on it is this owner's, which has taken over whatever was entered for the attempt."""
        self._owner = owner

    @property
    def sent_at(self) -> float:
        """When the request was sent, or began to wait for a connection; an instant of the monotonic clock."""
        return self._sent_at

    @property
    def head_at(self) -> float:
        """When the head of its answer had come; 0 before."""
        return self._head_at

    def _answered_badly(self, status: int, now: float) -> None:
        owner = self._owner
        owner.traced()
        owner.runtime.recorder.attempt_answered_badly(owner.ticket, owner.target.upstream.name, status)
        self._settle(FAILURE, now, answered=True)

    def _failed(self, failure: Failure, reason: str, detail: str, error: str | None, *, stale: bool = False) -> None:
        self._owner.ticket.unanswered = reason == "upstream_timeout"
        self._owner.failed(failure, reason, detail, error, stale=stale, now=time.monotonic())

    def _truncated(self, detail: str, outcome: Outcome) -> None:
        reason = "upstream_truncated"
        owner = self._owner
        ticket = owner.ticket
        ticket.unanswered = False
        owner.traced()
        owner.runtime.recorder.attempt_failed(ticket, owner.target.upstream.name, reason, ticket.status, detail)
        self._settle(outcome, time.monotonic())
        owner.ended()
        owner.downstream.truncated(reason, detail)

    def _lacking(self) -> None:
        """This host could not even try. Another endpoint, or the same one a moment later, may do: a connection that
        comes back needs nothing new."""
        now = time.monotonic()
        self._owner.ticket.unanswered = False
        retry = self._owner.retry_lacking(now)
        if retry is None:
            self._no_connection(self.endpoint.pool.lacking, now)
        else:
            self._settle(IGNORED, now)
            self._owner.again(retry)

    def _no_connection(self, why: str, now: float) -> None:
        self._owner.ticket.unanswered = False
        self._settle(IGNORED, now)
        self._owner.no_connection(why, now)

    def _settle(self, outcome: Outcome, now: float, *, answered: bool = False) -> None:
        """Exactly once: circuit, endpoint and recorder hear how it went. `answered` says that a failure is the
        upstream's own word. HOT."""
        if self._settled:
            return
        self._settled = True
        owner = self._owner
        ticket = owner.ticket
        seconds = (self._head_at or now) - self._sent_at
        ticket.now = now
        ticket.answered = answered
        ticket.reached = self._reached
        trace = ticket.trace
        if trace is not None:
            trace.settled(now, self._sent_at, answered=self._head_at > 0.0)
        owner.chain.leave_attempt(ticket, outcome, seconds)
        self.endpoint.ended(outcome, now)
        if outcome is not IGNORED:
            owner.runtime.recorder.attempt_ended(owner.target.upstream.name, seconds)
        ticket.upstream_seconds += now - self._sent_at

    def _left_waiting(self, now: float) -> None:
        """The client of a complete request has gone. An endpoint that has said nothing to it for a good part of the
        time limit, and has answered nobody else meanwhile, hangs: its clients need not wait to the end for that."""
        owner = self._owner
        ticket = owner.ticket
        waited = now - self._sent_at
        patience = owner.target.upstream.attempt_timeout * _HUNG_SHARE
        hung = waited >= patience and not self._head_at and not self.endpoint.answered_since(self._sent_at)
        if hung and ticket.permit is not None and not self._settled:
            ticket.unanswered = True
            detail = f"no answer within {waited:.1f} s, when the client left"
            owner.runtime.recorder.attempt_failed(ticket, owner.target.upstream.name, "upstream_timeout", None, detail)
            self._settle(FAILURE, now)
        else:
            self._unwanted(now)

    def _unwanted(self, now: float) -> None:
        """Nobody waits for the answer any more, which says nothing about the upstream; but how long was waited may."""
        ticket = self._owner.ticket
        permit = ticket.permit
        if permit is None or self._settled:
            return
        ticket.unanswered = not self._head_at
        permit.left((self._head_at or now) - self._sent_at, now)
        # The circuit has heard of it; the endpoint is still to be released.
        ticket.permit = UNCOUNTED

    def settle_failed(self, now: float, *, stale: bool) -> None:
        """A connection that had died of old age says nothing about the upstream."""
        self._settle(IGNORED if stale else FAILURE, now)

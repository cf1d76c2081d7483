"""The way of one ticket through gates of which one has to be waited for.

A gate that lets requests wait has a limit for that. If it never resumes one (what it has called has raised, for
example), the time limit of the request ends the wait.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.defects import guarded
from gateway.proxy.gate import PASS, WAIT, Chain, Resumption
from gateway.proxy.ticket import Ticket
from gateway.wire.deadlines import Deadlines

NEVER: Final = float("inf")
"""The time of a request whose owner ends it itself."""

Done = Callable[[Resumption], None]
"""Called once: with PASS when every gate is entered, or with what one has answered. What was entered stays entered."""


class Passage:
    """Begins at the gate `ticket.at`, which has said WAIT, behind gates that are all entered; made only for such a
    ticket. `waits` is called for each gate that has to be waited for. After `abandon` nobody is called.

    `failed` is called when an exception has come out of the gates that follow, or of `done`: whoever resumes a request
    may have to resume others after it, and does not hear of it.

    `seconds` is the time that the request has left at `ticket.now`. A request whose body arrives meanwhile has as much
    again, counted from the end of its body where that is known. Then the gate says what refuses it (`Gate.too_late`).
    `deadline` is an instant of the monotonic clock (gateway.wire.deadlines)."""

    __slots__ = (
        *("_abandoned", "_chain", "_clock", "_deadlines", "_done", "_failed"),
        *("_at", "_received", "_seconds", "_ticket", "_waiting", "_waits", "deadline"),
    )

    def __init__(
        self,
        chain: Chain,
        ticket: Ticket,
        done: Done,
        waits: Callable[[], None],
        failed: Callable[[], None],
        deadlines: Deadlines,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain = chain
        self._ticket = ticket
        self._done = done
        self._waits = waits
        self._failed = failed
        self._deadlines = deadlines
        self._seconds = seconds
        self._clock = clock
        self._received = 0 if ticket.body is None else ticket.body.received
        self._at = ticket.at
        self._abandoned = False
        self._waiting = False
        self.deadline = ticket.now + seconds

    def wait(self) -> None:
        """Ask the gate to resume the ticket. It may do so from within this call."""
        ticket = self._ticket
        self._at = at = ticket.at
        self._waiting = True
        self._chain.gates[at].start(ticket, self._resumed)
        if self._waiting and ticket.at == at:
            if self.deadline < NEVER:
                self._deadlines.add(self)
            self._waits()

    def abandon(self) -> None:
        """The request has ended while it waited. Idempotent."""
        if not self._abandoned:
            self._abandoned = True
            self._deadlines.discard(self)
            self._chain.gates[self._at].abandon(self._ticket)

    def expire(self, now: float) -> None:
        """The deadline has passed (gateway.wire.deadlines)."""
        ticket = self._ticket
        body = ticket.body
        if body is not None and body.received != self._received:
            self._received = body.received
            self.deadline = max(self.deadline, (body.ended_at or now) + self._seconds)
            if self.deadline > now:
                return
        guarded(ticket, self._too_late, self._failed)

    def _too_late(self) -> None:
        ticket = self._ticket
        self.abandon()
        ticket.waiting = None
        self._done(self._chain.gates[self._at].too_late(ticket))

    def _resumed(self, verdict: Resumption) -> None:
        ticket = self._ticket
        self._waiting = False
        if self._abandoned:
            if verdict is PASS:
                # The gate could not take it back. The request may have gone on to others.
                self._chain.leave_late(ticket, self._at)
            return
        self._deadlines.discard(self)
        ticket.waiting = None
        guarded(ticket, partial(self._go_on, verdict), self._failed)

    def _go_on(self, verdict: Resumption) -> None:
        chain, ticket = self._chain, self._ticket
        if verdict is not PASS:
            self._done(verdict)
            return
        ticket.now = self._clock()
        ticket.entered = ticket.at + 1
        following = chain.admit_from(ticket, ticket.entered)
        if following is WAIT:
            self.wait()
        elif following is PASS or isinstance(following, Refusal):
            self._done(following)

"""The way of one ticket through gates of which one has to be waited for."""

import logging
import time
from collections.abc import Callable

from gateway.policy.outcome import IGNORED
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.gate import PASS, WAIT, Chain, Resumption
from gateway.proxy.ticket import Ticket

log = logging.getLogger("gateway")

Done = Callable[[Resumption], None]
"""Called once: with PASS when every gate is entered, or with what one has answered. What was entered stays entered."""


class Passage:
    """Begins at the gate `ticket.at`, which has said WAIT, behind gates that are all entered; made only for such a
    ticket. `waits` is called for each gate that has to be waited for. After `abandon` nobody is called.

    `failed` is called when an exception has come out of the gates that follow, or of `done`: whoever resumes a request
    may have to resume others after it, and does not hear of it."""

    __slots__ = ("_abandoned", "_chain", "_clock", "_done", "_failed", "_ticket", "_waiting", "_waits")

    def __init__(
        self,
        chain: Chain,
        ticket: Ticket,
        done: Done,
        waits: Callable[[], None],
        failed: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._chain = chain
        self._ticket = ticket
        self._done = done
        self._waits = waits
        self._failed = failed
        self._clock = clock
        self._abandoned = False
        self._waiting = False

    def wait(self) -> None:
        """Ask the gate to resume the ticket. It may do so from within this call."""
        ticket = self._ticket
        at = ticket.at
        self._waiting = True
        self._chain.gates[at].start(ticket, self._resumed)
        if self._waiting and ticket.at == at:
            self._waits()

    def abandon(self) -> None:
        """The request has ended while it waited."""
        self._abandoned = True
        self._chain.gates[self._ticket.at].abandon(self._ticket)

    def _resumed(self, verdict: Resumption) -> None:
        chain, ticket = self._chain, self._ticket
        self._waiting = False
        ticket.waiting = None
        if self._abandoned:
            if verdict is PASS:
                # The gate could not take it back.
                chain.gates[ticket.at].leave(ticket, IGNORED, 0.0)
            return
        try:
            self._go_on(verdict)
        except Exception:
            log.exception("the gateway has failed at request %s", ticket.request_id)
            self._failed()

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

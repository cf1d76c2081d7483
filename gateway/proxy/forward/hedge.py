"""The hedge of a request: its second attempt, and what stands between the two and the exchange.

What becomes of the two attempts is decided in `gateway.proxy.forward.hedging`.
"""

from typing import Final

from gateway.policy.outcome import IGNORED
from gateway.policy.retry import Failure, Retry
from gateway.proxy.destinations.hedging import Hedging
from gateway.proxy.forward.attempt import Attempt
from gateway.proxy.forward.downstream import Downstream
from gateway.proxy.forward.faulty import attempt_with_faults
from gateway.proxy.forward.owner import Owner
from gateway.proxy.forward.passing_on import PassingOn
from gateway.proxy.forward.retries import Forward
from gateway.proxy.gate import PASS
from gateway.proxy.ticket import Ticket
from gateway.proxy.upstreams.upstream import Endpoint
from gateway.wire.message.response import Response

OTHER: Final = Retry(0.0)
"""What `retry_after` says where an answer is passed over, because the other attempt is still under way."""


class Hedged(Forward):
    """What a hedge knows of the forwarder whose request it is (`gateway.proxy.forward.hedging.HedgingForward`)."""

    __slots__ = ()

    def first_won(self) -> None:
        """The first attempt has a good answer."""
        raise NotImplementedError

    def hedge_won(self) -> None:
        """The hedge has a good answer."""
        raise NotImplementedError

    def hedge_failed(self) -> None:
        """The hedge came to nothing, and is settled. The first attempt goes on."""
        raise NotImplementedError

    def says_nothing(self, status: int) -> bool:
        """Whether an answer of 400 or more is passed over while the other attempt runs."""
        raise NotImplementedError

    def heard(self, response: Response, now: float) -> None:
        """An answer of 400 or more has come, of which the upstream may want to have notice taken."""
        raise NotImplementedError


class Hedge(Owner):
    """The second attempt, and the account of it until it is the request's."""

    __slots__ = ("_forward", "attempt")

    def __init__(self, forward: Hedged, hedging: Hedging, endpoint: Endpoint, now: float) -> None:
        """Nothing speaks against it. It takes its places, and is to be started."""
        first, upstream = forward.ticket, forward.target.upstream
        self._forward = forward
        self.runtime = forward.runtime
        self.target = forward.target
        self.body = forward.body
        self.downstream = Line(forward, forward.downstream, first=False)
        self.chain = hedging.chain
        self.tried = ()
        self.total_timeout = forward.total_timeout
        self.total_deadline = forward.total_deadline
        self.head = self.target.head
        self.ticket = ticket = _another(first, now)
        ticket.endpoint = endpoint.label
        trace, faults = first.trace, upstream.faults
        try:
            verdict = self.chain.admit(ticket)
            assert verdict is PASS  # noqa: S101 - there was no obstacle
            self.attempt = (
                Attempt(self, endpoint, now) if faults is None else attempt_with_faults(self, endpoint, faults, now)
            )
            if trace is not None:
                ticket.trace, self.head = trace.beside(upstream.name, endpoint.label, self.target.head, now)
        except Exception:
            self.chain.leave(ticket, IGNORED, 0.0)
            raise
        endpoint.in_flight += 1

    def __repr__(self) -> str:
        return f"<Hedge {self.attempt}>"

    @property
    def entered(self) -> bool:
        """Whether the gates before an attempt have yet to hear how this one ended."""
        return self.ticket.entered > self.chain.per_attempt

    # From the attempt, while the first one runs, too.

    def traced(self) -> None:
        """It is, wherever the first attempt is."""

    def retry_after(self, response: Response, now: float) -> Retry | None:
        """An answer that is not good enough is dropped."""
        self._forward.heard(response, now)
        return OTHER if self._forward.says_nothing(response.status) else None

    def retry_lacking(self, now: float) -> Retry | None:
        """None: the first attempt goes on."""
        return None

    def again(self, retry: Retry) -> None:
        """Its answer was dropped."""
        self._forward.hedge_failed()

    def failed(self, failure: Failure, reason: str, detail: str, error: str | None, *, stale: bool, now: float) -> None:
        """It came to nothing."""
        if write_off(self, self.attempt, reason, detail, now, stale=stale):
            self._forward.ticket.attempts -= 1
        self._forward.hedge_failed()

    def no_connection(self, why: str, now: float) -> None:
        """There is none to be had for it."""
        self._forward.hedge_failed()

    def ended(self) -> None:
        """It has the answer, in one piece."""
        forward = self._forward
        forward.hedge_won()
        forward.ended()


class Line(PassingOn):
    """Between one of two attempts and the exchange: a good head ends the other attempt before it is passed on, and what
    comes before the head is dropped, because the head may be another one's."""

    __slots__ = ("_first", "_forward")

    def __init__(self, forward: Hedged, to: Downstream, *, first: bool) -> None:
        super().__init__(to)
        self._forward = forward
        self._first = first

    def respond(self, response: Response) -> None:
        if self._first:
            self._forward.first_won()
        else:
            self._forward.hedge_won()
        self.to.respond(response)

    def informational(self, response: Response) -> None:
        """Not passed on."""


def _another(ticket: Ticket, now: float) -> Ticket:
    """A second account of the same request, of which nothing is entered."""
    made = Ticket(
        *(ticket.request, ticket.origin, ticket.account, ticket.log_part, ticket.own_id, now, ticket.priority),
    )
    made.client = ticket.client
    made.caller = ticket.caller
    made.variant = ticket.variant
    made.body = ticket.body
    made.attempts = ticket.attempts + 1
    return made


def write_off(owner: Owner, attempt: Attempt, reason: str, detail: str, now: float, *, stale: bool) -> bool:
    """One of two attempts has failed: record it, and settle it. Whether it does not count, because a pooled connection
    had died of old age."""
    ticket = owner.ticket
    if not stale:
        owner.runtime.recorder.attempt_failed(ticket, owner.target.upstream.name, reason, None, detail)
    elif ticket.trace is not None:
        ticket.trace.failed(reason, None)
    attempt.settle_failed(now, stale=stale)
    return stale

"""`X-Gateway-Debug`: what became of a request on its way, for who bears the admin token.

A request with `X-Gateway-Debug: {the admin token}` gets a field of the same name in its answer, one line of JSON:

    {"route", "upstream", "request_id", "trace_id", "gates": [{"gate", "decision"}], "decisions": {…},
     "attempts": [{"upstream", "endpoint", "start_ms", "ms", "outcome", "probe"}], "reason", "ms"}

An attempt that was made beside the one before it has `"hedge": true`, too.

`decision` of a gate is the word that it has noted (as in the access log), `passed`, `refused` or `not asked`. Times are
milliseconds since the head of the request; those of an attempt that still sends its body go to the head of its answer.

The field of the request never goes on to an upstream. Without the token, or with another one, the answer is as for
everybody. Who guesses gets nothing from `WRONG_A_SECOND` wrong tokens on, until the second is over, even with the right
one.
"""

import hmac
import json
import re
import time
from collections.abc import Callable
from typing import ClassVar, Final

from gateway.proxy.filter import Filter
from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response

WRONG_A_SECOND: Final = 10
# A debug answer is the gateway's alone.
_OF_UPSTREAM: Final = re.compile(rb"^x-gateway-debug:[^\r\n]*\r\n", re.IGNORECASE | re.MULTILINE)


class DebugToken:
    """Whether a debug answer is due. One for each process, so that guesses count together."""

    __slots__ = ("_clock", "_since", "_token", "_wrong")

    def __init__(self, token: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._token = token.encode()
        self._clock = clock
        self._since = 0.0
        self._wrong = 0

    def admits(self, given: bytes) -> bool:
        """Compare in constant time."""
        now = self._clock()
        if now - self._since >= 1.0:
            self._since = now
            self._wrong = 0
        if self._wrong >= WRONG_A_SECOND:
            return False
        right = hmac.compare_digest(given, self._token)
        if not right:
            self._wrong += 1
        return right


class DebugFields(Filter):
    """For a route with these gates, by name and in their order."""

    adds_to_refusals: ClassVar[bool] = True
    changes_head: ClassVar[bool] = True

    def __init__(self, token: DebugToken, gates: tuple[str, ...]) -> None:
        self._token = token
        self._gates = gates

    def head(self, ticket: Ticket, response: Response) -> Response:
        """HOT."""
        given = ticket.request.fields.debug
        if given is None or not self._token.admits(given):
            return response
        head = _OF_UPSTREAM.sub(b"", response.head)
        return response.with_head(head + self._line(ticket, response.status))

    def fields(self, ticket: Ticket, response: Response | None) -> bytes:
        """HOT."""
        given = ticket.request.fields.debug
        if given is None or not self._token.admits(given):
            return b""
        return self._line(ticket, 0)

    def _line(self, ticket: Ticket, status: int) -> bytes:
        now = time.monotonic()
        trace = ticket.trace
        told = {
            "route": ticket.account.name or None,
            "upstream": ticket.account.service or None,
            "request_id": ticket.request_id.decode(),
            "trace_id": trace.trace_id.decode() if trace is not None else None,
            "gates": self._gates_of(ticket),
            "decisions": dict(ticket.log_decisions),
            "attempts": _attempts(ticket, status, now),
            "reason": ticket.reason or None,
            "ms": _ms(now - ticket.started),
        }
        # ASCII, and no line ends: what a client or an upstream has sent cannot end the field.
        return b"X-Gateway-Debug: %b\r\n" % json.dumps(told, separators=(",", ":")).encode()

    def _gates_of(self, ticket: Ticket) -> list[dict[str, str]]:
        told = []
        for index, gate in enumerate(self._gates):
            decision = ticket.log_decisions.get(gate)
            if index > ticket.at:
                word = "not asked"
            elif index == ticket.at:
                word = decision or "refused"
            else:
                word = decision or "passed"
            told.append({"gate": gate, "decision": word})
        return told


def _attempts(ticket: Ticket, status: int, now: float) -> list[dict[str, object]]:
    trace = ticket.trace
    if trace is None:
        return []
    told: list[dict[str, object]] = []
    for attempt in trace.attempts:
        outcome = attempt.outcome
        if status and attempt is trace.present and not attempt.reason:
            outcome = str(attempt.status or status)
        told.append(
            {
                "upstream": attempt.upstream,
                "endpoint": attempt.endpoint,
                "start_ms": _ms(attempt.began - ticket.started),
                "ms": _ms((attempt.ended or now) - attempt.began),
                "outcome": outcome,
                "probe": attempt.probe,
                **({"hedge": True} if attempt.hedge else {}),
            }
        )
    return told


def _ms(seconds: float) -> float:
    return round(seconds * 1000.0, 3)

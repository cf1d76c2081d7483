"""The share of the places in flight that one client may hold, so that none can take them all (`overloaded` beyond)."""

import math
from typing import ClassVar

from gateway.config.sections.shedding.model import SheddingConfig
from gateway.policy.limit import ConcurrencyLimit
from gateway.policy.outcome import Outcome
from gateway.proxy.gate import PASS, Gate, Question, Step, Verdict, step
from gateway.proxy.gates.in_flight import InFlightGate
from gateway.proxy.ticket import Ticket


class ClientShareGate(Gate):
    """A client may hold `most` places; `held` has what each of them holds.

    It is passed before the cap on all in flight, so a request that waits for a place there is in its client's share
    already. While all clients together hold less than one share, there is nothing to look up."""

    name: ClassVar[str] = "client_share"
    holds: ClassVar[bool] = True

    def __init__(self, config: SheddingConfig, in_flight: InFlightGate) -> None:
        self.most = math.ceil(config.limit.limit * config.client_share)
        self.held: dict[str, int] = {}
        self._in_flight = in_flight
        self._limit: ConcurrencyLimit = in_flight.limit

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        most = self.most
        if self._limit.in_flight >= most and self.held.get(ticket.client, 0) >= most:
            return self._in_flight.refuse("client_share")
        return PASS

    def enter(self, ticket: Ticket) -> None:
        """HOT."""
        held, client = self.held, ticket.client
        held[client] = held.get(client, 0) + 1

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """HOT."""
        held, client = self.held, ticket.client
        left = held[client] - 1
        if left:
            held[client] = left
        else:
            del held[client]

    def describe(self) -> dict[str, object]:
        """The most that one client may hold."""
        return {"limit": self.most}

    async def explain(self, question: Question) -> Step:
        """What the client holds of its share."""
        held = self.held.get(question.client, 0)
        figures = {"in_flight": held, "limit": self.most}
        detail = f"{held} of the {self.most} requests in flight that one client may have are {question.client}'s."
        if self._limit.in_flight >= self.most and held >= self.most:
            return step(
                self.name, "refuse", detail, self._in_flight.status, "overloaded", self._in_flight.retry_after, figures
            )
        return step(self.name, "allow", detail, figures=figures)

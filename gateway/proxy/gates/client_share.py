"""The share of the places in flight that one client may hold, so that none can take them all (`overloaded` beyond)."""

import math
from typing import ClassVar

from gateway.config.model import SheddingConfig
from gateway.policy.client_share import ClientShare
from gateway.policy.limit import ConcurrencyLimit
from gateway.policy.outcome import Outcome
from gateway.proxy.gates import PASS, Gate, Question, Step, Verdict, step
from gateway.proxy.gates.in_flight import InFlightGate
from gateway.proxy.ticket import Ticket


class ClientShareGate(Gate):
    """Passed before the cap on all in flight, so a request that waits for a place there is in its client's share
    already. While all clients together hold less than one share, there is nothing to look up."""

    name: ClassVar[str] = "client_share"

    def __init__(self, config: SheddingConfig, in_flight: InFlightGate) -> None:
        self._share = ClientShare(math.ceil(config.limit.limit * config.client_share))
        self._in_flight = in_flight
        self._limit: ConcurrencyLimit = in_flight.limit

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        share = self._share
        if self._limit.in_flight >= share.limit and share.used_up(ticket.client):
            return self._in_flight.refuse("client_share")
        return PASS

    def enter(self, ticket: Ticket) -> None:
        """HOT."""
        self._share.take(ticket.client)

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """HOT."""
        self._share.give_back(ticket.client)

    def describe(self) -> dict[str, object]:
        return {"limit": self._share.limit}

    async def explain(self, question: Question) -> Step:
        share = self._share
        held = share.held_by(question.client)
        figures = {"in_flight": held, "limit": share.limit}
        detail = f"{held} of the {share.limit} requests in flight that one client may have are {question.client}'s."
        if self._limit.in_flight >= share.limit and share.used_up(question.client):
            return step(
                self.name, "refuse", detail, self._in_flight.status, "overloaded", self._in_flight.retry_after, figures
            )
        return step(self.name, "allow", detail, figures=figures)

"""The gates of routes that split their requests over several upstreams (`gateway.proxy.destinations.split`).

… ──▶ split: chooses ──▶ bulkhead ──▶ circuit ──▶ adaptive_limit       each of the upstream that was chosen
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from gateway.policy.outcome import Outcome
from gateway.proxy.destinations.split import Split
from gateway.proxy.gate import PASS, Gate, Question, Resume, Step, Verdict, step
from gateway.proxy.ticket import Ticket


class SplitGate(Gate):
    """Chooses the upstream of each request, and passes them all."""

    name: ClassVar[str] = "split"

    def __init__(self, split: Split) -> None:
        self.split = split

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        if ticket.variant < 0:
            self.split.choose(ticket)
        return PASS

    def describe(self) -> dict[str, object]:
        """The weights, by upstream, and what a client stays with its upstream by."""
        config = self.split.config
        described: dict[str, object] = {f"{name}.weight": weight for name, weight in config.to}
        return described | {"sticky": config.sticky if config.field is None else config.field}

    async def explain(self, question: Question) -> Step:
        """Where requests go, and this one if that can be said."""
        split = self.split
        parts = [
            f"{split.weights.share(index):.4g}".rstrip() + f" to {each.name}"
            for index, each in enumerate(split.upstreams)
        ]
        detail = f"Of the requests go {', '.join(parts)}."
        index = split.foreseen(question)
        if index is None:
            detail += f" What follows is about {split.upstreams[split.explained(question)].name}."
        else:
            detail += f" This one goes to {split.upstreams[index].name}."
        return step(self.name, "allow", detail, figures=dict(split.config.to))


class ChosenGate(Gate):
    """Stands for the gates of one kind, one for each upstream of the split in its order: each request meets that of its
    own upstream."""

    name: ClassVar[str] = "chosen"
    holds: ClassVar[bool] = True

    def __init__(self, split: Split, gates: Sequence[Gate]) -> None:
        self._split = split
        self._gates = tuple(gates)

    def check(self, ticket: Ticket) -> Verdict:
        """HOT."""
        return self._gates[ticket.variant].check(ticket)

    def enter(self, ticket: Ticket) -> None:
        """HOT."""
        self._gates[ticket.variant].enter(ticket)

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """HOT."""
        self._gates[ticket.variant].leave(ticket, outcome, seconds)

    def start(self, ticket: Ticket, resume: Resume) -> None:
        self._gates[ticket.variant].start(ticket, resume)

    def abandon(self, ticket: Ticket) -> None:
        self._gates[ticket.variant].abandon(ticket)

    def describe(self) -> Mapping[str, object]:
        """The settings of all, by upstream."""
        return {
            f"{upstream.name}.{setting}": value
            for upstream, gate in zip(self._split.upstreams, self._gates, strict=True)
            for setting, value in gate.describe().items()
        }

    async def explain(self, question: Question) -> Step:
        return await self._gates[self._split.explained(question)].explain(question)


class ChosenBulkhead(ChosenGate):
    """The bulkhead of the upstream that was chosen."""

    name: ClassVar[str] = "bulkhead"


class ChosenCircuit(ChosenGate):
    """Its circuit."""

    name: ClassVar[str] = "circuit"


class ChosenLimit(ChosenGate):
    """Its adaptive limit; an upstream without one passes everything."""

    name: ClassVar[str] = "adaptive_limit"

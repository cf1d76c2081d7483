"""Gates: what a request passes on its way to the upstream.

A route has a flat tuple of gates, made when its topology is built (`gateway.proxy.gates.kinds`). The order is that of
docs/behaviour.md. Each gate is asked in turn:

    check(ticket) -> PASS       the request may go on
                  -> Refusal    it ends here, and the refusal is the answer
                  -> WAIT       this cannot be decided now: `start` is called, and the gate resumes the request later

`check` takes nothing that has to be given back, so a refusal by a later gate leaves nothing to undo. When every gate
has passed a request, `enter` is called for all of them in order, with nothing awaited in between, and may rely on what
`check` has just found. `leave` is called once for each gate that was entered, in the opposite order, with how it ended:

    outcome   SUCCESS, FAILURE, or IGNORED for what says nothing about the upstream (the client left, another gate
              refused)
    seconds   since the gate was entered

A request that waits at a gate has entered every gate before it. The gate calls `resume` exactly once, at once or later
from the event loop: with a refusal, or with PASS, by which the gate counts as entered. `abandon` takes back a `start`
whose request has ended; a gate that cannot take it back may still resume, and is left again then.

Gates from `per_attempt` on (the circuit) are passed anew before each attempt, and hear how the attempt ended; the ones
before them are passed once and hear how the exchange ended.

Nothing here awaits and nothing starts a task: a request that can be decided locally is decided in one call.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple

from mypy_extensions import mypyc_attr

from gateway.policy.outcome import Outcome
from gateway.proxy.refusals import Refusal
from gateway.proxy.ticket import Ticket


class Wait:
    """The type of `WAIT`."""

    __slots__ = ()


Verdict = Refusal | Wait | None
PASS: Final = None
WAIT: Final = Wait()

Resume = Callable[[Refusal | None], None]
"""Called by a gate with its answer to a request that has waited: a refusal, or PASS."""

Step = dict[str, Any]
"""One policy in an explanation: `policy`, `decision` (allow, wait, refuse, exempt or none), `detail` in words,
`status`, `reason`, `retry_after` in seconds, `figures`."""


class Question(NamedTuple):
    """What `explain` is asked about: the client as it is limited, whether it is exempt from rate limits, the method,
    and the present instant of the monotonic clock."""

    client: str
    exempt: bool
    method: str
    now: float


@mypyc_attr(allow_interpreted_subclasses=True)
class Gate:
    """Passes everything. A kind of gate overrides what it needs."""

    name: ClassVar[str] = "gate"
    """The policy's name in explanations and in the control plane."""

    def check(self, ticket: Ticket) -> Verdict:
        """PASS, a refusal, or WAIT. Synchronous; takes nothing that has to be given back. HOT."""
        return PASS

    def enter(self, ticket: Ticket) -> None:
        """Take the place that `check` has found free. Cannot fail. HOT."""

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """Give back what `enter`, or a resumed wait, has taken. HOT."""

    def start(self, ticket: Ticket, resume: Resume) -> None:
        """Wait for a decision, right after `check` said WAIT."""
        raise NotImplementedError(f"{self.name} never waits")  # pragma: no cover - a gate that waits overrides it

    def abandon(self, ticket: Ticket) -> None:
        """The request that waits here has ended."""

    def describe(self) -> Mapping[str, object]:
        """The settings in effect, for `gateway routes` and the control plane: plain values, no secrets."""
        return {}

    async def explain(self, question: Question) -> Step:
        """What a request would meet here now, without taking anything."""
        return step(self.name, "none", "It is not decided before a request comes.")


def check(gates: tuple[Gate, ...], ticket: Ticket, start: int) -> Verdict:
    """Ask the gates from `start` on. Returns PASS, or what the first gate says that does not pass the request, whose
    index is then `ticket.at`. HOT."""
    for at in range(start, len(gates)):
        verdict = gates[at].check(ticket)
        if verdict is not None:
            ticket.at = at
            return verdict
    ticket.at = len(gates)
    return PASS


def enter(gates: tuple[Gate, ...], ticket: Ticket, start: int, end: int) -> None:
    """Enter the gates from `start` up to `end`, right after they have passed the request. HOT."""
    for at in range(start, end):
        gates[at].enter(ticket)


def leave(gates: tuple[Gate, ...], ticket: Ticket, start: int, end: int, outcome: Outcome, seconds: float) -> None:
    """Leave the entered gates from `start` up to `end`, the last one first. HOT."""
    for at in range(end - 1, start - 1, -1):
        gates[at].leave(ticket, outcome, seconds)


def step(
    policy: str,
    decision: str,
    detail: str,
    status: int | None = None,
    reason: str | None = None,
    retry_after: float | None = None,
    figures: dict[str, Any] | None = None,
) -> Step:
    """One step of an explanation."""
    return {
        "policy": policy,
        "decision": decision,
        "detail": detail,
        "status": status,
        "reason": reason,
        "retry_after": None if retry_after is None else round(retry_after, 3),
        "figures": figures or {},
    }

"""Gates: what a request passes on its way to the upstream.

A route has a flat tuple of gates, made when its topology is built (`gateway.proxy.routes.kinds`). The order is that of
docs/behaviour.md. Each gate is asked in turn:

    check(ticket) -> PASS       the request may go on
                  -> Refusal    it ends here, and the refusal is the answer
                  -> WAIT       this cannot be decided now: `start` is called, and the gate resumes the request later

`check` takes nothing that has to be given back, so a refusal by a later gate leaves nothing to undo. When every gate
has passed a request, `enter` is called for all of them that hold something, in order, with nothing awaited in between,
and may rely on what `check` has just found. `leave` is called once for each gate that was entered, in the opposite
order, with how it ended:

    outcome   SUCCESS, FAILURE, or IGNORED for what says nothing about the upstream (the client left, another gate
              refused)
    seconds   since the gate was entered

A request that waits at a gate has entered every gate before it. The gate calls `resume` exactly once, at once or later
from the event loop: with a refusal, with an answer in place of the upstream's, or with PASS, by which the gate counts
as entered. `abandon` takes back a `start` whose request has ended; a gate that cannot take it back may still resume,
and is left again then. A gate has a limit for how long it lets a request wait. Where it does not keep it, the wait
ends with the time of the request, and `too_late` says what refuses it.

Gates from `per_attempt` on (the circuit) are passed anew before each attempt, and hear how the attempt ended; the ones
before them are passed once and hear how the exchange ended.

Nothing here awaits and nothing starts a task: a request that can be decided locally is decided in one call.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Final, NamedTuple

from mypy_extensions import mypyc_attr

from gateway.identity.tenants import Caller
from gateway.policy.outcome import IGNORED, Outcome
from gateway.policy.priority import NORMAL
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusals import UNDECIDED, Refusal
from gateway.proxy.defects import caught, undecided
from gateway.proxy.ticket import Ticket


class Wait:
    """The type of `WAIT`."""

    __slots__ = ()


Verdict = Refusal | Wait | None
PASS: Final = None
WAIT: Final = Wait()

Resumption = Refusal | OwnAnswer | None
"""What becomes of a request that has waited: a refusal, an answer that is no refusal, or PASS."""

Resume = Callable[[Resumption], None]
"""Called by a gate with its answer to a request that has waited."""

Step = dict[str, Any]
"""One policy in an explanation: `policy`, `decision` (allow, wait, refuse, exempt or none), `detail` in words,
`status`, `reason`, `retry_after` in seconds, `figures`."""


class Question(NamedTuple):
    """What `explain` is asked about: the client as it is limited, whether it is exempt from rate limits, the method,
    the present instant of the monotonic clock, who sends it, None where nobody is named, and its priority
    (`gateway.policy.priority`)."""

    client: str
    exempt: bool
    method: str
    now: float
    caller: Caller | None = None
    priority: int = NORMAL


@mypyc_attr(allow_interpreted_subclasses=True)
class Gate:
    """Passes everything. A kind of gate overrides what it needs."""

    name: ClassVar[str] = "gate"
    """The policy's name in explanations and in the control plane."""
    holds: ClassVar[bool] = False
    """Whether it takes something, so that `enter` and `leave` are called."""

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

    def too_late(self, ticket: Ticket) -> Refusal:
        """What refuses a request that has waited here until its time was over. `abandon` was called before."""
        undecided(ticket, self.name)
        return UNDECIDED

    def describe(self) -> Mapping[str, object]:
        """The settings in effect, for `gateway routes` and the control plane: plain values, no secrets."""
        return {}

    async def explain(self, question: Question) -> Step:
        """What a request would meet here now, without taking anything."""
        return step(self.name, "none", "It is not decided before a request comes.")


class Chain:
    """The gates of one route, in their order. Those from `per_attempt` on are passed before each attempt, the ones
    before it once; `ticket.entered` gates are entered at any time, from the first on."""

    __slots__ = ("_enter", "_leave_each", "_leave_once", "gates", "per_attempt")

    def __init__(self, gates: tuple[Gate, ...], per_attempt: int) -> None:
        self.gates = gates
        self.per_attempt = per_attempt
        # The gates to which entering, or leaving, means something.
        self._enter = tuple([gate for gate in gates if gate.holds and type(gate).enter is not Gate.enter])
        self._leave_once = tuple([gate for gate in gates[:per_attempt] if gate.holds])[::-1]
        self._leave_each = tuple([gate for gate in gates[per_attempt:] if gate.holds])[::-1]

    def admit(self, ticket: Ticket) -> Verdict:
        """Ask every gate, and enter those that have passed the request unless it is refused.

        Returns PASS, or what the first gate says that does not pass it, whose index is then `ticket.at`. A refusal has
        entered nothing. HOT."""
        for at, gate in enumerate(self.gates):
            verdict = gate.check(ticket)
            if verdict is not None:
                return self._stopped(ticket, verdict, at)
        entered = 0
        try:
            for gate in self._enter:
                gate.enter(ticket)
                entered += 1
        except Exception:
            # A defect: whoever catches it leaves those that are entered.
            ticket.entered = self.gates.index(self._enter[entered])
            raise
        ticket.at = ticket.entered = len(self.gates)
        return PASS

    def admit_from(self, ticket: Ticket, start: int) -> Verdict:
        """As `admit`, from the gate `start` on; those before it are entered already."""
        gates = self.gates
        for at, gate in enumerate(gates[start:], start):
            verdict = gate.check(ticket)
            if verdict is not None:
                return self._stopped(ticket, verdict, at)
        self.enter_to(ticket, len(gates))
        return PASS

    def enter_to(self, ticket: Ticket, end: int) -> None:
        """Enter the gates before `end` that are not entered yet. They have just passed the ticket."""
        for at in range(ticket.entered, end):
            self.gates[at].enter(ticket)
            ticket.entered = at + 1
        ticket.at = end

    def leave_from(self, ticket: Ticket, start: int, outcome: Outcome, seconds: float) -> None:
        """Leave the gates from `start` on that are entered, the last one first."""
        self.leave_attempt(ticket, outcome, seconds)
        entered = ticket.entered
        if entered > start:
            ticket.entered = start
            _leave(self.gates[start:entered][::-1], ticket, outcome, seconds)

    def leave_attempt(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """Leave the gates that were entered for the present attempt, the last one first. HOT."""
        entered, once = ticket.entered, self.per_attempt
        if entered <= once:
            return
        ticket.entered = once
        each = self._leave_each if entered == len(self.gates) else self.gates[once:entered][::-1]
        _leave(each, ticket, outcome, seconds)

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        """Leave every gate that is entered, the last one first. HOT."""
        once = self.per_attempt
        if ticket.entered > once:
            self.leave_attempt(ticket, outcome, seconds)
        entered, ticket.entered = ticket.entered, 0
        _leave(self._leave_once if entered == once else self.gates[:entered][::-1], ticket, outcome, seconds)

    def leave_late(self, ticket: Ticket, at: int) -> None:
        """Leave the gate `at`, which has passed a request that had ended while it waited there."""
        _leave((self.gates[at],), ticket, IGNORED, 0.0)

    def _stopped(self, ticket: Ticket, verdict: Refusal | Wait, at: int) -> Verdict:
        """The gate `at` has not passed the request, and those before it have. One that waits has entered them. HOT."""
        ticket.at = at
        if verdict is WAIT:
            self.enter_to(ticket, at)
        return verdict


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


def _leave(gates: tuple[Gate, ...], ticket: Ticket, outcome: Outcome, seconds: float) -> None:
    """Leave these gates one after the other. One that fails keeps no place of the others. HOT."""
    left = 0
    try:
        for gate in gates:
            left += 1
            gate.leave(ticket, outcome, seconds)
    except Exception as defect:  # noqa: BLE001 - it is logged with where it was raised
        caught(ticket, defect)
        _leave(gates[left:], ticket, outcome, seconds)

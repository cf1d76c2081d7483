"""The chain of gates: what is entered is left, waiting takes no task, and a new kind needs no other file."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import pytest

from gateway.policy.limit import ConcurrencyLimit, LimitSettings
from gateway.policy.outcome import IGNORED, SUCCESS, Outcome
from gateway.proxy.answers.refusals import DEFECT, UNDECIDED, Refusal
from gateway.proxy.filter import Filter, Filters
from gateway.proxy.gate import PASS, WAIT, Chain, Gate, Resume, Resumption, Verdict
from gateway.proxy.gates.passage import NEVER, Passage
from gateway.proxy.gates.places import PlaceGate
from gateway.proxy.requests.body import RequestBody
from gateway.proxy.ticket import Ticket
from gateway.wire.deadlines import Deadlines
from gateway.wire.message.response import Response, parse_fields
from tests.support.broken import BrokenGate
from tests.support.fake_transport import FakeLoop
from tests.support.tickets import request, ticket

NO_LOOP = cast(asyncio.AbstractEventLoop, None)  # nothing here waits for time


class Places(PlaceGate):
    def refuse(self, cause: str, priority: int = 0) -> Refusal:
        return Refusal(503, "bulkhead_full", cause, 1)


class Told(Gate):
    """Passes, and tells what it hears."""

    holds: ClassVar[bool] = True

    def __init__(self, name: str, told: list[tuple[Any, ...]]) -> None:
        self.label = name
        self.told = told

    def enter(self, ticket: Ticket) -> None:
        self.told.append(("enter", self.label))

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        self.told.append(("leave", self.label, outcome, seconds))


class Nights(Gate):
    """A gate that refuses: closed for one client."""

    name: ClassVar[str] = "nights"

    def check(self, ticket: Ticket) -> Verdict:
        return Refusal(503, "overloaded", "closed at night", 60) if ticket.client == "192.0.2.66" else PASS

    def describe(self) -> dict[str, object]:
        return {"closed_for": "192.0.2.66"}


class Bell(Gate):
    """A gate that waits: somebody has to open."""

    name: ClassVar[str] = "bell"
    holds: ClassVar[bool] = True

    def __init__(self) -> None:
        self.waiting: list[Resume] = []
        self.left: list[Outcome] = []

    def check(self, ticket: Ticket) -> Verdict:
        return WAIT

    def start(self, ticket: Ticket, resume: Resume) -> None:
        self.waiting.append(resume)

    def leave(self, ticket: Ticket, outcome: Outcome, seconds: float) -> None:
        self.left.append(outcome)


class Loud(Filter):
    """A filter that rewrites a field, and one word of the body."""

    changes_head: ClassVar[bool] = True
    rewrites_body: ClassVar[bool] = True

    def head(self, ticket: Ticket, response: Response) -> Response:
        return response.with_head(response.head.replace(b"X-Mood: calm", b"X-Mood: loud"))

    def body(self, ticket: Ticket, data: bytes) -> bytes:
        return data.upper()


def chain(*gates: Gate) -> Chain:
    """All of them are passed once."""
    return Chain(gates, len(gates))


def passage(gates: Chain, of: Ticket, told: list[Resumption]) -> Passage:
    unused = Deadlines(NO_LOOP, 0.05)
    return Passage(gates, of, told.append, lambda: None, lambda: told.append(DEFECT), unused, NEVER, lambda: 1.0)


@pytest.mark.parametrize(("queue", "said"), [(0, "in_flight"), (1, "queue_full")])
def test_beyond_a_limit_and_its_queue_is_refused_and_holds_no_place_before_it(queue: int, said: str) -> None:
    first, limit = ConcurrencyLimit(LimitSettings(10)), ConcurrencyLimit(LimitSettings(1, queue, 1.0))
    gates = chain(Places(first, NO_LOOP), Places(limit, NO_LOOP))
    assert gates.admit(ticket()) is PASS
    for waiting in range(queue):
        early = ticket()
        assert gates.admit(early) is WAIT
        limit.enqueue(waiting, 0.0)
        gates.leave(early, IGNORED, 0.0)
    late = ticket()
    refusal = gates.admit(late)
    assert isinstance(refusal, Refusal)
    assert (late.at, late.entered, refusal.detail) == (1, 0, said)
    assert first.in_flight == 1


def test_gates_are_left_in_the_opposite_order_with_outcome_and_seconds() -> None:
    told: list[tuple[Any, ...]] = []
    gates = chain(Told("a", told), Told("b", told))
    admitted = ticket()
    assert gates.admit(admitted) is PASS
    gates.leave(admitted, SUCCESS, 0.25)
    assert told == [("enter", "a"), ("enter", "b"), ("leave", "b", SUCCESS, 0.25), ("leave", "a", SUCCESS, 0.25)]
    assert admitted.entered == 0


@pytest.mark.parametrize("per_attempt", [0, 2, 3])
def test_a_gate_that_cannot_be_left_keeps_no_place_of_the_others(
    per_attempt: int, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[tuple[Any, ...]] = []
    gates = Chain((Told("a", told), BrokenGate("leave"), Told("b", told)), per_attempt)
    admitted = ticket()
    assert gates.admit(admitted) is PASS
    told.clear()
    gates.leave(admitted, SUCCESS, 0.25)
    assert told == [("leave", "b", SUCCESS, 0.25), ("leave", "a", SUCCESS, 0.25)]
    assert admitted.entered == 0
    assert caplog.text.count("the gateway has failed at request") == 1
    assert gates.admit(admitted) is PASS
    told.clear()
    gates.leave_from(admitted, 0, SUCCESS, 0.25)
    assert told == [("leave", "b", SUCCESS, 0.25), ("leave", "a", SUCCESS, 0.25)]


def test_gates_of_an_attempt_are_left_and_entered_again_without_the_others() -> None:
    told: list[tuple[Any, ...]] = []
    gates = Chain((Told("once", told), Told("each", told)), 1)
    admitted = ticket()
    gates.admit(admitted)
    gates.leave_attempt(admitted, IGNORED, 0.1)
    gates.leave_attempt(admitted, IGNORED, 0.1)
    assert gates.admit_from(admitted, gates.per_attempt) is PASS
    gates.leave(admitted, SUCCESS, 0.2)
    assert [entry[:2] for entry in told] == [
        ("enter", "once"),
        ("enter", "each"),
        ("leave", "each"),
        ("enter", "each"),
        ("leave", "each"),
        ("leave", "once"),
    ]


def test_a_gate_that_refuses_ends_the_walk() -> None:
    told: list[tuple[Any, ...]] = []
    gates = chain(Nights(), Told("behind", told))
    refusal = gates.admit(ticket(peer="192.0.2.66"))
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after == 60
    assert told == []
    assert gates.admit(ticket()) is PASS
    assert told == [("enter", "behind")]


def test_a_ticket_that_waits_goes_on_behind_the_gate() -> None:
    told: list[tuple[Any, ...]] = []
    ends: list[Resumption] = []
    bell = Bell()
    gates = chain(Told("before", told), bell, Told("behind", told))
    waiting = ticket()
    assert gates.admit(waiting) is WAIT
    passage(gates, waiting, ends).wait()
    assert (ends, told, waiting.entered) == ([], [("enter", "before")], 1)
    bell.waiting[0](PASS)
    assert ends == [PASS]
    assert told == [("enter", "before"), ("enter", "behind")]
    assert (waiting.entered, waiting.now) == (3, 1.0)


def test_the_time_of_a_request_at_a_gate_begins_anew_with_its_body() -> None:
    told: list[Resumption] = []
    loop = FakeLoop()
    deadlines = Deadlines(cast(asyncio.AbstractEventLoop, loop), 0.05, lambda: 0.0)
    waiting = ticket()
    waiting.body = body = RequestBody(0)
    gates = chain(Bell())
    gates.admit(waiting)
    made = Passage(gates, waiting, told.append, lambda: None, lambda: told.append(DEFECT), deadlines, 10.0, lambda: 0.0)
    made.wait()
    assert (made.deadline, len(deadlines)) == (10.0, 1)
    body.received = 5
    made.expire(10.0)
    assert (told, made.deadline) == ([], 20.0)
    body.received, body.ended_at = 6, 13.0
    made.expire(20.0)
    assert (told, made.deadline) == ([], 23.0)
    made.expire(23.0)
    assert (told, len(deadlines)) == ([UNDECIDED], 0)


@pytest.mark.parametrize("second", [PASS, Refusal(503, "overloaded", "no", 1)])
def test_two_gates_that_wait_one_behind_the_other(second: Refusal | None) -> None:
    ends: list[Resumption] = []
    bells = Bell(), Bell()
    waiting = ticket()
    gates = chain(*bells)
    assert gates.admit(waiting) is WAIT
    passage(gates, waiting, ends).wait()
    bells[0].waiting[0](PASS)
    assert (ends, waiting.entered) == ([], 1)
    bells[1].waiting[0](second)
    assert ends == [second]
    assert waiting.entered == (2 if second is PASS else 1)


@pytest.mark.parametrize(
    ("verdict", "left"), [(PASS, [IGNORED]), (Refusal(503, "overloaded", "no", 1), list[Outcome]())]
)
def test_what_a_gate_gives_to_one_who_has_left_is_given_back(verdict: Refusal | None, left: list[Outcome]) -> None:
    ends: list[Resumption] = []
    bell = Bell()
    gates = chain(bell)
    waiting = ticket()
    gates.admit(waiting)
    way = passage(gates, waiting, ends)
    way.wait()
    way.abandon()
    bell.waiting[0](verdict)
    assert (ends, bell.left) == ([], left)


class Turn:
    """A loop whose next turn the test takes."""

    def __init__(self) -> None:
        self.next: list[tuple[Callable[..., None], Any]] = []

    def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
        self.next.append((callback, arguments))

    def call_later(self, delay: float, callback: Callable[..., None]) -> None:
        """Nothing expires here."""


def test_a_place_that_becomes_free_goes_to_the_one_who_waits() -> None:
    turn = Turn()
    limit = ConcurrencyLimit(LimitSettings(1, 1, 1.0))
    gates = chain(Places(limit, cast(asyncio.AbstractEventLoop, turn), lambda: 0.0))
    first, second = ticket(), ticket()
    assert gates.admit(first) is PASS
    assert gates.admit(second) is WAIT
    ends: list[Resumption] = []
    passage(gates, second, ends).wait()
    gates.leave(first, SUCCESS, 0.0)
    assert (ends, limit.in_flight) == ([], 1)
    for callback, arguments in turn.next:
        callback(*arguments)
    assert (ends, second.entered, limit.in_flight) == ([PASS], 1, 1)


def test_a_filter_rewrites_head_and_body() -> None:
    filters = Filters((Loud(),))
    response = Response(200, b"OK", 1, parse_fields(b"X-Mood: calm\r\nContent-Length: 2\r\n\r\n"))
    response.frame(to_head=False)
    changed = filters.changed(ticket(request()), response)
    assert b"X-Mood: loud" in changed.head
    assert (changed.framing, changed.length) == (response.framing, response.length)
    assert b"X-Mood: calm" in response.head
    assert filters.bodies[0].body(ticket(), b"ok") == b"OK"

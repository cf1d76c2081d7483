"""The chain of gates: what is entered is left, waiting takes no task, and a new kind needs no other file."""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import pytest

from gateway.policy.limit import ConcurrencyLimit, LimitSettings
from gateway.policy.outcome import IGNORED, SUCCESS, Outcome
from gateway.proxy.filters import Filter, Filters
from gateway.proxy.gates import PASS, WAIT, Gate, Resume, Verdict, check, enter, leave
from gateway.proxy.gates.passage import Passage
from gateway.proxy.gates.places import PlaceGate
from gateway.proxy.refusals import Refusal
from gateway.proxy.ticket import Ticket
from gateway.wire.message.response import Response, parse_fields
from tests.support.tickets import request, ticket

NO_LOOP = cast(asyncio.AbstractEventLoop, None)  # nothing here waits for time


class Places(PlaceGate):
    def refuse(self, cause: str) -> Refusal:
        return Refusal(503, "bulkhead_full", cause, 1)


class Told(Gate):
    """Passes, and tells what it hears."""

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


def passage(gates: tuple[Gate, ...], of: Ticket, told: list[Refusal | None]) -> Passage:
    return Passage(gates, of, told.append, lambda: None, lambda: 1.0)


@pytest.mark.parametrize(("queue", "said"), [(0, "in_flight"), (1, "queue_full")])
def test_beyond_a_limit_and_its_queue_is_refused_and_holds_no_place_before_it(queue: int, said: str) -> None:
    first, limit = ConcurrencyLimit(LimitSettings(10)), ConcurrencyLimit(LimitSettings(1, queue, 1.0))
    gates: tuple[Gate, ...] = (Places(first, NO_LOOP), Places(limit, NO_LOOP))
    admitted = ticket()
    assert check(gates, admitted, 0) is PASS
    enter(gates, admitted, 0, admitted.at)
    for waiting in range(queue):
        assert check(gates, ticket(), 0) is WAIT
        limit.enqueue(waiting, 0.0)
    late = ticket()
    refusal = check(gates, late, 0)
    assert isinstance(refusal, Refusal)
    assert (late.at, refusal.detail) == (1, said)
    assert first.in_flight == 1


def test_gates_are_left_in_the_opposite_order_with_outcome_and_seconds() -> None:
    told: list[tuple[Any, ...]] = []
    gates: tuple[Gate, ...] = (Told("a", told), Told("b", told))
    admitted = ticket()
    assert check(gates, admitted, 0) is PASS
    enter(gates, admitted, 0, admitted.at)
    leave(gates, admitted, 0, 2, SUCCESS, 0.25)
    assert told == [("enter", "a"), ("enter", "b"), ("leave", "b", SUCCESS, 0.25), ("leave", "a", SUCCESS, 0.25)]


def test_a_gate_that_refuses_ends_the_walk() -> None:
    told: list[tuple[Any, ...]] = []
    gates: tuple[Gate, ...] = (Nights(), Told("behind", told))
    assert check(gates, ticket(), 0) is PASS
    refusal = check(gates, ticket(peer="192.0.2.66"), 0)
    assert isinstance(refusal, Refusal)
    assert refusal.retry_after == 60
    assert told == []


def test_a_ticket_that_waits_goes_on_behind_the_gate() -> None:
    told: list[tuple[Any, ...]] = []
    ends: list[Refusal | None] = []
    bell = Bell()
    gates: tuple[Gate, ...] = (Told("before", told), bell, Told("behind", told))
    waiting = ticket()
    assert check(gates, waiting, 0) is WAIT
    enter(gates, waiting, 0, waiting.at)
    waiting.entered = waiting.at
    passage(gates, waiting, ends).wait()
    assert (ends, told) == ([], [("enter", "before")])
    bell.waiting[0](PASS)
    assert ends == [PASS]
    assert told == [("enter", "before"), ("enter", "behind")]
    assert (waiting.entered, waiting.now) == (3, 1.0)


@pytest.mark.parametrize("second", [PASS, Refusal(503, "overloaded", "no", 1)])
def test_two_gates_that_wait_one_behind_the_other(second: Refusal | None) -> None:
    ends: list[Refusal | None] = []
    bells = Bell(), Bell()
    waiting = ticket()
    assert check(bells, waiting, 0) is WAIT
    passage(bells, waiting, ends).wait()
    bells[0].waiting[0](PASS)
    assert (ends, waiting.entered) == ([], 1)
    bells[1].waiting[0](second)
    assert ends == [second]
    assert waiting.entered == (2 if second is PASS else 1)


@pytest.mark.parametrize(
    ("verdict", "left"), [(PASS, [IGNORED]), (Refusal(503, "overloaded", "no", 1), list[Outcome]())]
)
def test_what_a_gate_gives_to_one_who_has_left_is_given_back(verdict: Refusal | None, left: list[Outcome]) -> None:
    ends: list[Refusal | None] = []
    bell = Bell()
    waiting = ticket()
    check((bell,), waiting, 0)
    way = passage((bell,), waiting, ends)
    way.wait()
    way.abandon()
    bell.waiting[0](verdict)
    assert (ends, bell.left) == ([], left)


def test_a_place_that_becomes_free_goes_to_the_one_who_waits() -> None:
    class Turn:
        """A loop whose next turn the test takes."""

        def __init__(self) -> None:
            self.next: list[tuple[Callable[..., None], Any]] = []

        def call_soon(self, callback: Callable[..., None], *arguments: Any) -> None:
            self.next.append((callback, arguments))

        def call_later(self, delay: float, callback: Callable[..., None]) -> None:
            """Nothing expires here."""

    turn = Turn()
    limit = ConcurrencyLimit(LimitSettings(1, 1, 1.0))
    gate = Places(limit, cast(asyncio.AbstractEventLoop, turn), lambda: 0.0)
    first, second = ticket(), ticket()
    assert check((gate,), first, 0) is PASS
    enter((gate,), first, 0, 1)
    assert check((gate,), second, 0) is WAIT
    ends: list[Refusal | None] = []
    passage((gate,), second, ends).wait()
    leave((gate,), first, 0, 1, SUCCESS, 0.0)
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

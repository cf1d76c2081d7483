"""Copies of requests without a socket: which share, what of a body, and what the bounds hold."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.turns import Percentage
from gateway.proxy.requests.body import BodyCopy, RequestBody


class Kept(BodyCopy):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def take(self, data: bytes) -> None:
        self.told.append(data)

    def complete(self, received: int) -> None:
        self.told.append(received)

    def incomplete(self) -> None:
        self.told.append("incomplete")


@given(st.floats(0, 100), st.integers(1, 3000))
def test_a_share_is_what_it_says_at_any_time(percent: float, events: int) -> None:
    percentage = Percentage(percent)
    taken = sum(percentage.next() for _ in range(events))
    assert abs(taken - events * percent / 100) < 4


@pytest.mark.parametrize("rhythm", range(2, 13))
def test_requests_in_a_rhythm_are_all_copied_alike(rhythm: int) -> None:
    percentage = Percentage(100 / rhythm)
    taken = [at % rhythm for at in range(1000 * rhythm) if percentage.next()]
    each = [taken.count(kind) for kind in range(rhythm)]
    assert min(each) > 0.8 * 1000 / rhythm
    assert max(each) < 1.2 * 1000 / rhythm


def test_all_and_none() -> None:
    everything, nothing = Percentage(100), Percentage(0)
    assert {everything.next() for _ in range(1000)} == {True}
    assert {nothing.next() for _ in range(1000)} == {False}


def arriving(keep: int = 10) -> tuple[RequestBody, Kept]:
    body, kept = RequestBody(keep), Kept()
    body.copy = kept
    return body, kept


def receive(body: RequestBody, data: bytes, *, sent: bool) -> None:
    body.received += len(data)
    if sent:
        body.pass_on(data)
    else:
        body.hold(data)


@pytest.mark.parametrize("keep", [0, 2, 100])
def test_a_copy_hears_of_every_piece_whether_it_is_held_sent_or_kept(keep: int) -> None:
    body, kept = arriving(keep)
    for number, piece in enumerate((b"a", b"bc", b"def", b"ghij")):
        receive(body, piece, sent=number > 0)
    body.end()
    assert kept.told == [b"a", b"bc", b"def", b"ghij", 10]
    # Once, and nothing afterwards.
    body.forget()
    assert len(kept.told) == 5


def test_a_copy_hears_when_the_rest_does_not_come() -> None:
    body, kept = arriving()
    receive(body, b"a", sent=True)
    body.forget()
    body.forget()
    assert kept.told == [b"a", "incomplete"]


def test_what_nobody_took_shows_in_the_count() -> None:
    body, kept = arriving()
    receive(body, b"a", sent=True)
    body.received += 5
    body.end()
    assert kept.told == [b"a", 6]


def test_a_collected_body_is_copied_too() -> None:
    body, kept = arriving()
    collected: list[bytes | None] = []
    body.collect(100, collected.append)
    receive(body, b"ab", sent=False)
    body.end()
    assert (kept.told, collected) == ([b"ab", 2], [b"ab"])

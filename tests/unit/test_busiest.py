"""The busiest clients of a rate limit: bounded, never too small a count, and of the last minute."""

import random

from hypothesis import given
from hypothesis import strategies as st

from gateway.telemetry.busiest import EXACTLY, HALF, Busiest, Busy, Sketch


def decided(busy: Busy, client: str, allowed: bool, now: float) -> None:
    """As the gates do it."""
    busy.left -= 1
    if not busy.left:
        busy.note(client, allowed, now)


@given(st.lists(st.integers(0, 30), max_size=300), st.integers(1, 10))
def test_a_sketch_is_bounded_and_misses_nobody_who_is_busy(clients: list[int], most: int) -> None:
    sketch = Sketch(most)
    for client in clients:
        sketch.add(str(client), 1, 0)
    assert len(sketch.seen) <= most
    assert sum(each.decisions for each in sketch.seen.values()) == len(clients)
    for client in set(clients):
        true = clients.count(client)
        if true > len(clients) / most:
            assert str(client) in sketch.seen
        if str(client) in sketch.seen:
            assert sketch.seen[str(client)].decisions >= true


def test_few_decisions_are_counted_exactly() -> None:
    busy = Busy(10, random.Random(1))
    for at in range(30):
        decided(busy, "a" if at % 3 else "b", at % 2 == 0, 100.0 + at / 10)
    seconds, found = busy.read(104.0)
    assert found == {"a": (20, 10), "b": (10, 5)}
    assert seconds == 4.0


def test_many_decisions_are_estimated_whatever_their_rhythm() -> None:
    busy = Busy(10, random.Random(1))
    total = 20_000
    for at in range(total):
        # Two clients take turns: looking at every eighth decision would see one of them alone.
        decided(busy, "a" if at % 2 else "b", at % 4 < 2, 100.0 + at / total)
    _, found = busy.read(101.0)
    for decisions, refused in found.values():
        assert abs(decisions - total / 2) < total * 0.05
        assert abs(refused - total / 4) < total * 0.05


def test_what_is_older_than_a_minute_is_forgotten() -> None:
    busy = Busy(10, random.Random(1))
    for at in range(EXACTLY // 2):
        decided(busy, "early", True, 100.0 + at / 100)
    decided(busy, "late", True, 100.0 + HALF + 1)
    seconds, found = busy.read(100.0 + HALF + 2)
    assert set(found) == {"early", "late"}
    assert HALF < seconds <= 2 * HALF
    decided(busy, "later", True, 100.0 + 2 * HALF + 1)
    assert set(busy.read(100.0 + 2 * HALF + 2)[1]) == {"late", "later"}
    assert busy.read(100.0 + 9 * HALF)[1] == {}


def test_none_is_kept_where_none_is_wanted() -> None:
    off = Busiest(0, random.Random(1))
    assert off.of("default") is None
    assert list(off.read(10, 0.0)) == []
    on = Busiest(5, random.Random(1))
    busy = on.of("default")
    assert busy is not None
    assert on.of("default") is busy
    for _ in range(3):
        decided(busy, "a", True, 100.0)
    decided(busy, "b", False, 100.0)
    assert list(on.read(1, 101.0)) == [("default", [("a", 3.0, 0.0)])]

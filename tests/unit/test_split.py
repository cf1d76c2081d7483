"""Shares of requests and of keys: exact by turns, stable by key, and as few moves as can be when weights change."""

import itertools
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy.split import Weights

WRITTEN_DOWN = [0, 1, 0, 1, 0, 0, 0, 0, 1, 0, 1, 1]
KEYS = [f"client:192.0.2.{number % 256}:{number}".encode() for number in range(4000)]


def by_key(**weights: int) -> list[int]:
    made = Weights(tuple(weights.items()))
    return [made.of(key) for key in KEYS]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(any), st.integers(0, 60))
def test_of_as_many_requests_in_a_row_as_the_weights_sum_up_to_each_has_its_weight(
    weights: list[int], before: int
) -> None:
    made = Weights([(f"u{index}", weight) for index, weight in enumerate(weights)])
    for _ in range(before):
        made.next()
    turns = Counter(made.next() for _ in range(sum(weights)))
    assert [turns[index] for index in range(len(weights))] == weights


def test_turns_are_spread_and_not_in_blocks() -> None:
    made = Weights((("a", 95), ("b", 5)))
    turns = [made.next() for _ in range(100)]
    places = [at for at, index in enumerate(turns) if index == 1]
    assert {after - before for before, after in itertools.pairwise(places)} == {20}


def test_a_weight_of_0_has_no_turn_and_no_key() -> None:
    made = Weights((("a", 0), ("b", 3), ("c", 0)))
    assert {made.next() for _ in range(50)} == {made.of(key) for key in KEYS} == {1}
    assert (made.heaviest, made.share(0), made.share(1)) == (1, 0.0, 1.0)


def test_without_any_weight_there_is_no_answer() -> None:
    with pytest.raises(ValueError, match="every weight is 0"):
        Weights((("a", 0), ("b", 0)))


def test_a_key_has_the_same_answer_in_every_process() -> None:
    # Computed once, and written down: another answer moves clients at the next release.
    made = Weights((("stable", 1), ("canary", 1)))
    assert [made.of(key) for key in KEYS[:12]] == WRITTEN_DOWN


def test_each_has_its_part_of_the_keys() -> None:
    # The keys are fixed, so this is a fact and no chance. Four standard deviations of a fair hash.
    counts = Counter(by_key(stable=90, canary=10))
    assert counts[1] == pytest.approx(400, abs=4 * (4000 * 0.1 * 0.9) ** 0.5)


@pytest.mark.parametrize(("before", "after"), [((95, 5), (90, 10)), ((90, 10), (50, 50)), ((100, 0), (99, 1))])
def test_a_canary_that_grows_takes_keys_and_gives_none_back(before: tuple[int, int], after: tuple[int, int]) -> None:
    old = by_key(stable=before[0], canary=before[1])
    new = by_key(stable=after[0], canary=after[1])
    moved = [(was, now) for was, now in zip(old, new, strict=True) if was != now]
    assert set(moved) == {(0, 1)}
    assert len(moved) == sum(new) - sum(old)
    # And back: those and no others.
    assert by_key(stable=before[0], canary=before[1]) == old


def test_an_upstream_that_comes_takes_keys_of_all_and_moves_no_others() -> None:
    old = by_key(a=2, b=1)
    new = by_key(a=2, b=1, c=1)
    assert {now for was, now in zip(old, new, strict=True) if was != now} == {2}
    assert {was for was, now in zip(old, new, strict=True) if now == 2} == {0, 1}


def test_weights_in_the_same_proportion_and_any_order_are_the_same() -> None:
    assert by_key(a=3, b=1) == by_key(a=300, b=100)
    swapped = Weights((("b", 1), ("a", 3)))
    assert [1 - swapped.of(key) for key in KEYS] == by_key(a=3, b=1)


def test_the_table_of_keys_is_bounded() -> None:
    made = Weights((("a", 1), ("b", 1)))
    for number in range(20_000):
        made.of(str(number).encode())
    assert len(made._known) <= 4096


def test_long_keys_are_not_kept() -> None:
    made = Weights((("a", 1), ("b", 1)))
    long = [b"field:" + b"x" * 30_000 + str(number).encode() for number in range(64)]
    first = [made.of(key) for key in long]
    assert set(first) == {0, 1}
    assert [made.of(key) for key in long] == first
    assert not made._known

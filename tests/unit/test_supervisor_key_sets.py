"""What the supervisor keeps of the key sets that workers fetch: the newest of each source that somebody has."""

import json

from gateway.supervisor.key_sets import KeySets

ONE, TWO, THREE = (0, 101), (1, 102), (0, 103)


def test_a_worker_gets_what_others_have_fetched_from_its_own_sources() -> None:
    key_sets = KeySets()
    assert key_sets.begun(ONE, ["a", "b"]) == {}
    key_sets.fetched(ONE, "a", 5.0, "A5")
    key_sets.fetched(ONE, "b", 6.0, "B6")
    assert key_sets.begun(TWO, ["a", "c"]) == {"a": (5.0, "A5")}


def test_the_fetch_that_was_begun_last_counts_whoever_tells_of_it_last() -> None:
    key_sets = KeySets()
    key_sets.begun(ONE, ["a"])
    key_sets.begun(TWO, ["a"])
    key_sets.fetched(TWO, "a", 7.0, "without the key that was withdrawn")
    key_sets.fetched(ONE, "a", 5.0, "with it")
    assert key_sets.begun(THREE, ["a"]) == {"a": (7.0, "without the key that was withdrawn")}


def test_the_successor_of_the_last_worker_gets_what_it_had() -> None:
    key_sets = KeySets()
    key_sets.begun(ONE, ["a"])
    key_sets.fetched(ONE, "a", 5.0, "A5")
    key_sets.ended(ONE)
    assert key_sets.begun(THREE, ["a"]) == {"a": (5.0, "A5")}


def test_sources_that_no_worker_has_are_forgotten_and_nobody_tells_of_those_of_others() -> None:
    key_sets = KeySets()
    key_sets.begun(ONE, ["a"])
    key_sets.fetched(ONE, "a", 5.0, "A5")
    key_sets.fetched(ONE, "b", 5.0, "B5")
    # As long as the worker of before lives, it may have successors: the new configuration may come to nothing.
    assert key_sets.begun(TWO, ["b"]) == {}
    assert len(key_sets) == 1
    key_sets.ended(ONE)
    key_sets.fetched(ONE, "a", 9.0, "too late")
    assert key_sets.begun(THREE, ["b"]) == {}
    assert len(key_sets) == 0


def test_an_upgrade_carries_all_of_it_over() -> None:
    key_sets = KeySets()
    key_sets.begun(ONE, ["a"])
    key_sets.fetched(ONE, "a", 5.0, "A5")
    restored = KeySets.restored(json.loads(json.dumps(key_sets.dump())))
    # The worker of before goes on to tell.
    restored.fetched(ONE, "a", 6.0, "A6")
    assert restored.begun(TWO, ["a"]) == {"a": (6.0, "A6")}

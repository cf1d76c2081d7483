"""The bucket table, on a clock that only the test moves."""

import pytest

from gateway.policy.token_bucket import BucketTable, Decision, RateLimitPolicy, time_to_gain

POLICY = RateLimitPolicy("default", 3, 0.5, max_ttl=60.0)

# (now, the decision)
STEPS = [
    (0.0, Decision(True, 2.0, 0.0, 2.0)),
    (0.0, Decision(True, 1.0, 0.0, 4.0)),
    (0.0, Decision(True, 0.0, 0.0, 6.0)),
    (0.0, Decision(False, 0.0, 2.0, 6.0)),
    (1.0, Decision(False, 0.5, 1.0, 5.0)),
    (2.0, Decision(True, 0.0, 0.0, 6.0)),
    (6.5, Decision(True, 1.25, 0.0, 3.5)),
    (50.0, Decision(True, 2.0, 0.0, 2.0)),
]


def test_tokens_come_and_go() -> None:
    table = BucketTable(POLICY)
    assert [(now, table.take("a", now)) for now, _ in STEPS] == STEPS


def test_clients_do_not_share() -> None:
    table = BucketTable(RateLimitPolicy("default", 1, 0.1))
    assert [table.take(client, 0.0).allowed for client in ("a", "b", "a", "b")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("tokens", "seconds"), [(-1.0, 0.0), (0.0, 0.0), (1.0, 2.0), (29.0, 58.0), (30.0, 60.0), (31.0, 60.0)]
)
def test_time_to_gain(tokens: float, seconds: float) -> None:
    assert time_to_gain(POLICY, tokens) == seconds


def test_without_refill_a_bucket_is_forgotten_after_its_time() -> None:
    policy = RateLimitPolicy("default", 1, 0.0, max_ttl=60.0)
    table = BucketTable(policy)
    assert table.take("a", 0.0).allowed
    refused = table.take("a", 59.0)
    assert (refused.allowed, refused.retry_after) == (False, 60.0)
    assert table.take("a", 60.0).allowed


def test_a_share_is_scaled_and_admits_one_at_least() -> None:
    table = BucketTable(RateLimitPolicy("default", 10, 4.0), share=0.5)
    taken = [table.take("a", 0.0) for _ in range(6)]
    assert [decision.allowed for decision in taken] == [True] * 5 + [False]
    assert taken[-1].retry_after == 0.5
    assert BucketTable(RateLimitPolicy("default", 1, 1.0), share=0.25).take("a", 0.0).allowed


def test_start_begins_with_what_is_given_and_no_more_than_the_capacity() -> None:
    table = BucketTable(POLICY)
    table.start("a", 1.5, 0.0)
    table.start("b", 100.0, 0.0)
    assert [table.take("a", 0.0).remaining, table.take("b", 0.0).remaining] == [0.5, 2.0]


def test_forget_tells_what_was_spent_while_it_still_matters() -> None:
    table = BucketTable(POLICY)
    for client in ("a", "a", "b"):
        table.take(client, 0.0)
    assert table.forget("a", 5.9) == 2
    assert "a" not in table
    assert table.forget("a", 5.9) == 0
    assert table.forget("b", 6.0) == 0  # any bucket of the policy is full by now


def test_full_buckets_are_forgotten_as_new_ones_come() -> None:
    table = BucketTable(POLICY)
    for i in range(200_000):
        table.take(f"client-{i}", i * 0.01)  # full again 2 s later
    assert len(table) <= 400  # 200 are not full, and looking for the others takes its turns


def test_at_the_cap_the_fuller_of_two_makes_room() -> None:
    table = BucketTable(RateLimitPolicy("default", 10, 0.001), max_clients=2)
    for _ in range(5):
        table.take("thirsty", 0.0)
    table.take("modest", 0.0)
    table.take("new", 0.0)
    assert ("thirsty" in table, "modest" in table, "new" in table) == (True, False, True)
    for i in range(1000):
        table.take(f"flood-{i}", 0.0)
    assert len(table) == 2

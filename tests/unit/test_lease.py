"""The lease table step by step: what it asks for, what it decides, when it wants to be called."""

import gc
from math import inf

import pytest

from gateway.policy.lease import EXHAUSTED_MEMORY, LEASE_TIME, RETURN_DELAY, Account, LeaseTable
from gateway.policy.lease.ask import Grant
from gateway.policy.token_bucket import Decision, RateLimitPolicy

POLICY = RateLimitPolicy("default", 160, 1.0)
CLIENT = "192.0.2.1"

Asked = tuple[int, int, int, int]  # want, lease, unspent, lease_id


class Desk:
    """A lease table, a clock, and the decisions by request number."""

    def __init__(self, policy: RateLimitPolicy = POLICY, max_clients: int = 1000) -> None:
        self.now = 100.0
        self.policy = policy
        self.noticed = 0
        self.table: LeaseTable[int] = LeaseTable(self._notice, max_clients)
        self.decisions: dict[int, Decision] = {}
        self.requests = 0
        self.asks: list[Account[int]] = []
        self.turns: list[int] = []
        self.sent_at = 0.0

    def _notice(self) -> None:
        self.noticed += 1

    def request(self, times: int = 1, client: str = CLIENT) -> list[bool | None]:
        """What each request is told at once; None when it waits."""
        told: list[bool | None] = []
        for _ in range(times):
            self.requests += 1
            decision = self.table.try_take(self.policy, client, self.now)
            if decision is None:
                decision = self.table.enter(self.policy, client, self.requests, self.now)
            told.append(decision.allowed if decision else None)
        return told

    def send(self) -> list[Asked]:
        self.sent_at = self.now
        self.asks = self.table.next_asks(self.now, 100)
        self.turns = [account.turn for account in self.asks]
        return [(a.want, a.lease, a.unspent, a.lease_id) for a in self.asks]

    def answer(self, *grants: Grant) -> list[tuple[int, bool]]:
        settled = self.table.settle(zip(self.asks, self.turns, strict=True), grants, self.sent_at, self.now)
        self.decisions.update(settled)
        return [(request, decision.allowed) for request, decision in settled]

    def lease(self, leased: int, lease_id: int = 7) -> None:
        """Make the client hot and give it a lease."""
        self.request(4)
        assert self.send()[0][:2] == (4, 4)
        self.answer(grant(4, leased=leased, lease_id=lease_id))


def test_what_is_left_to_a_client_has_the_tokens_that_are_leased_here() -> None:
    desk = Desk()
    desk.request(4)
    desk.send()
    desk.answer(grant(4, leased=4, lease_id=7, remaining=80.0))
    assert {decision.remaining for decision in desk.decisions.values()} == {84.0}
    decision = desk.table.try_take(desk.policy, CLIENT, desk.now)
    assert decision is not None
    assert decision.remaining == pytest.approx(83.0)


def grant(
    granted: int = 0,
    leased: int = 0,
    lease_id: int = 0,
    remaining: float = 150.0,
    retry_after: float = 0.0,
    held: int = 0,
    held_time: float = 0.0,
) -> Grant:
    return Grant(granted, leased, lease_id, LEASE_TIME, remaining, retry_after, 9.0, held, held_time)


def test_a_first_request_asks_for_itself_only() -> None:
    desk = Desk()
    assert desk.request() == [None]
    assert desk.noticed == 1
    assert desk.send() == [(1, 0, 0, 0)]
    assert desk.answer(grant(1, remaining=159.0)) == [(1, True)]
    assert desk.decisions[1] == Decision(True, 159.0, 0.0, 9.0)
    assert desk.send() == []


def test_a_slow_client_never_gets_a_lease() -> None:
    desk = Desk()
    for _ in range(50):
        desk.request()
        assert desk.send() == [(1, 0, 0, 0)]
        desk.answer(grant(1))
        desk.now += LEASE_TIME / 2


def test_a_hot_client_is_served_from_its_lease() -> None:
    desk = Desk()
    desk.lease(4)
    assert desk.request() == [True]
    assert desk.send() == []
    assert desk.request() == [True]  # two of four left: time to renew
    assert desk.send() == [(0, 4, 2, 7)]
    assert desk.request(2) == [True, True]  # while the answer is on its way
    assert desk.request() == [None]


def test_a_lease_is_worth_no_more_than_a_sixteenth() -> None:
    desk = Desk()
    desk.request(100)
    assert desk.send() == [(100, 10, 0, 0)]


def test_what_was_spent_meanwhile_is_taken_off_the_new_lease() -> None:
    desk = Desk()
    desk.lease(4)
    desk.request(2)
    assert desk.send() == [(0, 4, 2, 7)]
    desk.request(2)
    desk.answer(grant(leased=6, lease_id=8))
    assert desk.request(5) == [True, True, True, True, None]


def test_requests_that_came_meanwhile_are_served_from_the_new_lease_in_order() -> None:
    desk = Desk()
    desk.request(5)
    desk.send()
    desk.request(3)
    assert desk.answer(grant(3, leased=3, lease_id=7)) == [
        (1, True),
        (2, True),
        (3, True),
        (4, True),
        (5, True),
        (6, True),
    ]
    assert desk.send()[0][0] == 2


def test_a_lease_ends_a_lease_time_after_it_was_asked_for() -> None:
    desk = Desk()
    desk.request(4)
    desk.send()
    desk.now += 0.04
    desk.answer(grant(4, leased=4, lease_id=7))
    assert desk.table.next_wake == desk.sent_at + LEASE_TIME
    desk.now = desk.sent_at + LEASE_TIME - 1e-6
    assert desk.request() == [True]
    desk.now = desk.sent_at + LEASE_TIME
    assert desk.request() == [None]


def test_what_is_unspent_goes_back_when_the_lease_ends() -> None:
    desk = Desk()
    desk.lease(4)
    desk.request()
    desk.now = desk.sent_at + LEASE_TIME
    desk.table.wake(desk.now)
    assert desk.send() == [(0, 0, 3, 7)]
    assert desk.request() == [None]  # they are not ours any more
    desk.answer(grant())
    assert desk.send()[0][0] == 1
    assert desk.table.next_wake == inf


def test_a_lease_is_renewed_before_it_ends_while_requests_come() -> None:
    desk = Desk()
    desk.lease(10)
    desk.now = desk.sent_at + 0.07
    assert desk.request() == [True]
    assert desk.send() == []  # nine left are worth more than four
    desk.now = desk.sent_at + LEASE_TIME
    desk.table.wake(desk.now)
    assert desk.send() == [(0, 0, 9, 7)]


def test_below_half_a_lease_is_not_renewed() -> None:
    desk = Desk()
    desk.request(4)
    desk.send()
    desk.answer(grant(4, leased=4, lease_id=7, remaining=80.0))
    desk.request(4)
    assert desk.send() == []


def test_an_exhausted_client_is_refused_from_memory_until_its_next_token() -> None:
    desk = Desk()
    desk.request(2)
    desk.send()
    desk.answer(grant(1, remaining=0.25, retry_after=0.75))
    assert desk.decisions[2] == Decision(False, 0.25, 0.75, 9.0)
    desk.now += 0.5
    refused = desk.table.try_take(POLICY, CLIENT, desk.now)
    assert refused is not None
    assert (refused.allowed, refused.remaining, refused.retry_after) == (False, 0.25, 0.25)
    desk.now += 0.25
    assert desk.request() == [None]


def test_the_memory_of_exhaustion_is_short_but_the_time_told_is_the_true_one() -> None:
    desk = Desk()
    desk.request(2)
    desk.send()
    desk.answer(grant(1, remaining=0.0, retry_after=500.0))
    assert desk.decisions[2].retry_after == 500.0
    desk.now += EXHAUSTED_MEMORY / 2
    refused = desk.table.try_take(POLICY, CLIENT, desk.now)
    assert refused is not None
    assert refused.retry_after == 500.0 - EXHAUSTED_MEMORY / 2
    desk.now += EXHAUSTED_MEMORY / 2
    assert desk.request() == [None]


def test_as_many_wait_as_others_hold_and_the_rest_is_refused() -> None:
    desk = Desk()
    desk.request(5)
    desk.send()
    empty = grant(1, remaining=0.0, retry_after=60.0, held=2, held_time=0.05)
    assert desk.answer(empty) == [(1, True), (4, False), (5, False)]
    assert desk.decisions[4].retry_after == 0.05 + RETURN_DELAY
    assert desk.request() == [False]
    assert desk.table.next_wake == desk.now + 0.05 + RETURN_DELAY

    desk.now = desk.table.next_wake
    desk.table.wake(desk.now)
    assert desk.send()[0][0] == 2
    assert desk.answer(grant(1, remaining=0.0, retry_after=60.0, held=0)) == [(2, True), (3, False)]
    assert desk.decisions[3].retry_after == 60.0


def test_while_some_wait_others_may_join_up_to_what_is_held() -> None:
    desk = Desk()
    desk.request(2)
    desk.send()
    desk.answer(grant(1, remaining=0.0, retry_after=60.0, held=3, held_time=0.05))
    assert desk.request(3) == [None, None, False]


def test_waiting_ends_with_the_next_token_if_that_comes_sooner() -> None:
    desk = Desk()
    desk.request(2)
    desk.send()
    desk.answer(grant(1, remaining=0.9, retry_after=0.01, held=1, held_time=0.1))
    assert desk.table.next_wake == desk.now + 0.01


def test_there_is_one_ask_under_way_for_a_bucket() -> None:
    desk = Desk()
    desk.request()
    desk.send()
    desk.request(2)
    assert desk.table.next_asks(desk.now, 100) == []
    desk.answer(grant(1))
    assert desk.send()[0][0] == 2


def test_asks_of_many_clients_share_a_batch_and_keep_their_order() -> None:
    desk = Desk()
    for client in ("a", "b", "c"):
        desk.request(client=client)
    first = desk.table.next_asks(desk.now, 2)
    assert [account.client for account in first] == ["a", "b"]
    assert desk.table.in_line == 1
    assert [account.client for account in desk.table.next_asks(desk.now, 2)] == ["c"]


def test_more_than_the_bucket_can_hold_never_wait() -> None:
    desk = Desk(RateLimitPolicy("default", 3, 1.0))
    assert desk.request(5) == [None, None, None, False, False]


def test_an_unanswered_ask_forfeits_the_lease_and_its_late_answer_is_ignored() -> None:
    desk = Desk()
    desk.lease(4)
    desk.request(2)
    desk.send()
    late, turns = desk.asks, desk.turns
    desk.request(3)
    left = desk.table.abandon()
    assert [request for _, _, request in left] == [9]
    assert desk.request() == [None]
    assert desk.send()[0][2:] == (0, 0)
    assert desk.table.settle(zip(late, turns, strict=True), [grant(leased=6, lease_id=8)], 0.0, desk.now) == []
    assert desk.answer(grant(1)) == [(10, True)]


def test_a_lease_without_an_ask_under_way_outlives_the_loss_of_the_store() -> None:
    desk = Desk()
    desk.lease(4)
    assert desk.table.abandon() == []
    assert desk.request() == [True]


def test_abandon_hands_back_everybody_who_waits() -> None:
    desk = Desk()
    desk.request(2, client="parked")
    desk.send()
    desk.answer(grant(1, remaining=0.0, retry_after=60.0, held=1, held_time=0.1))
    desk.request(client="asking")
    desk.send()
    desk.request(client="queued")
    assert sorted((client, policy.name) for policy, client, _ in desk.table.abandon()) == [
        ("asking", "default"),
        ("parked", "default"),
        ("queued", "default"),
    ]
    assert desk.table.abandon() == []
    assert desk.send() == []


def test_surrender_tells_what_is_known_and_voids_the_lease() -> None:
    desk = Desk()
    assert desk.table.surrender(POLICY, CLIENT, desk.now) is None
    desk.lease(4)
    desk.now += 0.05
    known = desk.table.surrender(POLICY, CLIENT, desk.now)
    assert known is not None
    assert known[0] == pytest.approx(150.05)
    assert known[1] == 4
    assert desk.request() == [None]


def test_give_back_returns_every_lease() -> None:
    desk = Desk()
    desk.lease(4)
    desk.table.give_back()
    assert desk.table.try_take(POLICY, CLIENT, desk.now) is None
    assert desk.send() == [(0, 0, 4, 7)]


def test_a_changed_policy_is_adopted() -> None:
    desk = Desk()
    desk.request()
    desk.send()
    desk.answer(grant(1))
    desk.policy = RateLimitPolicy("default", 5, 1.0)
    desk.request()
    desk.send()
    assert desk.asks[0].policy is desk.policy


def test_memory_is_flat_over_many_clients() -> None:
    desk = Desk(RateLimitPolicy("default", 10, 10.0), max_clients=500)
    for i in range(20_000):
        desk.request(client=f"client-{i}")
        desk.send()
        desk.answer(grant(1, remaining=9.0))
        desk.now += 0.01
    assert len(desk.table) <= 220  # what a client did is forgotten a second later


def accounts_in_memory() -> int:
    gc.collect()
    return sum(type(each) is Account for each in gc.get_objects())


def test_debts_that_late_answers_covered_keep_nobody_in_memory() -> None:
    before = accounts_in_memory()
    desk = Desk(RateLimitPolicy("default", 10, 10.0), max_clients=500)
    for i in range(1000):
        client = f"client-{i}"
        desk.request(client=client)
        desk.send()
        desk.table.abandon()
        desk.table.owe(desk.policy, client, 1, desk.now)  # it is admitted without the store
        late = [grant(1, remaining=9.0)]
        desk.table.settle_late(zip(desk.asks, desk.turns, strict=True), late, desk.sent_at, desk.now)
        assert desk.send() == []  # the store has granted it after all, so nothing is owed
        desk.now += 0.01
    assert accounts_in_memory() - before <= 220


def test_the_number_of_accounts_is_capped() -> None:
    desk = Desk(RateLimitPolicy("default", 10, 0.001), max_clients=50)
    for i in range(1000):
        desk.request(client=f"client-{i}")
        desk.send()
        desk.answer(grant(1, remaining=9.0))
    assert len(desk.table) <= 50


def test_the_table_shows_its_state() -> None:
    desk = Desk()
    desk.lease(4)
    desk.request()
    assert repr(desk.table) == "<LeaseTable 1 accounts, 0 busy, 1 timers>"
    assert repr(desk.asks[0]) == "<Account 192.0.2.1 IDLE tokens=3 pool=150 waiting=0>"

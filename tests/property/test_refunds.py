"""Tokens that are given back, because another limit refused the request: the limit holds, and nothing is kept for ever.

The fleet of `test_rate_limit`, whose requests change their mind.
"""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.lease import LeaseTable
from gateway.policy.lease.ask import Ask
from gateway.policy.token_bucket import BucketTable, Decision, RateLimitPolicy
from gateway.store.memory.buckets import MemoryBuckets
from tests.property.test_rate_limit import CLIENT, Fleet, Message, Replica


class Fickle(Replica):
    """A replica of which every `second` request that waited gives its token back, and tells the store so."""

    second = 2

    def request(self) -> None:
        fleet = self.fleet
        self.requests += 1
        decision = self.table.try_take(fleet.policy, CLIENT, fleet.now)
        if decision is not None and decision.allowed and self.requests % self.second == 0:
            self.table.untake(fleet.policy, CLIENT)
            decision = Decision(False, 0.0, 1.0, 1.0)
        if decision is None:
            decision = self.table.enter(fleet.policy, CLIENT, self.requests, fleet.now)
        if decision is not None:
            super().decide(self.requests, decision, fleet.now)

    def decide(self, request: int, decision: Decision, at: float) -> None:
        if decision.allowed and request % self.second == 0:
            self.table.refund(self.fleet.policy, CLIENT, self.fleet.now)
            decision = Decision(False, 0.0, 1.0, 1.0)
        super().decide(request, decision, at)

    def send(self) -> None:
        now = self.fleet.now
        self.table.wake(now)
        while len(self.messages) < 2 and (accounts := self.table.next_asks(now, 8)):
            asks = [
                Ask(a.policy, a.client, a.want, a.lease, a.unspent, a.lease_id, a.debt_sent, a.debt_id)
                for a in accounts
            ]
            self.messages.append(Message([(a, a.turn) for a in accounts], asks, now))


class FickleFleet(Fleet):
    def __post_init__(self) -> None:
        self.store = MemoryBuckets(lambda: self.now)
        self.replicas = [Fickle(self, f"r{i}") for i in range(self.size)]


actions = st.one_of(
    st.tuples(st.just("request"), st.integers(1, 60)),
    st.tuples(st.just("pass"), st.sampled_from([0.0005, 0.003, 0.02, 0.05, 0.1, 0.25, 1.0])),
    st.tuples(st.sampled_from(["exchange", "exchange", "send", "execute", "deliver"]), st.just(1)),
    st.tuples(st.sampled_from(["lose", "surface"]), st.just(1)),
)
policies = st.builds(
    RateLimitPolicy,
    name=st.just("default"),
    capacity=st.integers(1, 200),
    refill_rate=st.sampled_from([0.5, 5.0, 50.0, 500.0]),
)


@settings(max_examples=200, deadline=None)
@given(policies, st.lists(st.tuples(st.integers(0, 1), actions), max_size=40))
def test_what_is_given_back_never_makes_too_many(
    policy: RateLimitPolicy, steps: list[tuple[int, tuple[str, int | float]]]
) -> None:
    fleet = FickleFleet(policy)
    for which, (action, amount) in steps:
        replica = fleet.replicas[which]
        if action == "request":
            for _ in range(int(amount)):
                replica.request()
        elif action == "pass":
            fleet.now += amount
        elif action == "exchange":
            for step in (replica.send, replica.execute, replica.deliver):
                step()
        else:
            getattr(replica, action)()
    fleet.settle_all()
    fleet.assert_within_limit()


def test_a_token_that_is_given_back_serves_the_next_request() -> None:
    fleet = FickleFleet(RateLimitPolicy("default", 4, 0.001))
    replica = fleet.replicas[0]
    for _ in range(8):
        replica.request()
        for step in (replica.send, replica.execute, replica.deliver, replica.send, replica.execute, replica.deliver):
            step()
    # Every second of them gave its token back: four had one.
    assert list(replica.decisions.values()) == [True, False] * 4
    replica.request()
    fleet.settle_all(20)
    assert not replica.decisions[9]


def test_a_lease_keeps_what_was_untaken() -> None:
    fleet = FickleFleet(RateLimitPolicy("default", 1600, 0.001))
    table: LeaseTable[int] = fleet.replicas[0].table
    replica = fleet.replicas[0]
    for _ in range(40):
        replica.request()
    for step in (replica.send, replica.execute, replica.deliver):
        step()
    held = table.held(fleet.policy, CLIENT, fleet.now)
    assert held > 0
    assert table.try_take(fleet.policy, CLIENT, fleet.now) is not None
    table.untake(fleet.policy, CLIENT)
    assert table.held(fleet.policy, CLIENT, fleet.now) == held


def test_a_bucket_in_memory_takes_back_no_more_than_it_holds() -> None:
    table = BucketTable(RateLimitPolicy("default", 2, 0.001))
    assert table.take("c", 0.0).allowed
    table.refund("c")
    table.refund("c")
    table.refund("nobody")
    assert [table.take("c", 0.0).allowed for _ in range(3)] == [True, True, False]

"""Several replicas, the network between them and the store, and everything that can happen to a message.

Real `LeaseTable`s and the real memory store, on one fake clock. A granted request counts as admitted when the store
granted it, one served from a lease when the replica let it through.
"""

import random
from collections import deque
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.policy.lease import Account, LeaseTable
from gateway.policy.lease.ask import Ask, Grant
from gateway.policy.token_bucket import BucketTable, Decision, RateLimitPolicy
from gateway.store.memory.buckets import MemoryBuckets

CLIENT = "192.0.2.1"


@dataclass
class Message:
    turns: list[tuple[Account[int], int]]
    asks: list[Ask]
    sent_at: float
    grants: list[Grant] | None = None
    done_at: float = 0.0


class Replica:
    """A lease table and its messages under way. At most two, as in the limiter."""

    def __init__(self, fleet: "Fleet", name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.table: LeaseTable[int] = LeaseTable(lambda: None)
        self.messages: deque[Message] = deque()
        self.lost: list[Message] = []
        self.decisions: dict[int, bool] = {}
        self.requests = 0

    def request(self) -> None:
        fleet = self.fleet
        self.requests += 1
        decision = self.table.try_take(fleet.policy, CLIENT, fleet.now)
        if decision is None:
            decision = self.table.enter(fleet.policy, CLIENT, self.requests, fleet.now)
        if decision is not None:
            self.decide(self.requests, decision, fleet.now)

    def decide(self, request: int, decision: Decision, at: float) -> None:
        assert request not in self.decisions
        self.decisions[request] = decision.allowed
        if decision.allowed:
            self.fleet.admitted.append(at)
        else:
            assert decision.retry_after > 0

    def send(self) -> None:
        now = self.fleet.now
        self.table.wake(now)
        while len(self.messages) < 2 and (accounts := self.table.next_asks(now, 8)):
            asks = [Ask(a.policy, a.client, a.want, a.lease, a.unspent, a.lease_id) for a in accounts]
            self.messages.append(Message([(a, a.turn) for a in accounts], asks, now))

    def execute(self) -> None:
        """The store acts on the oldest message it has not seen."""
        for message in self.messages:
            if message.grants is None:
                message.grants = self.fleet.store.take(self.name, message.asks)
                message.done_at = self.fleet.now
                self.fleet.check()
                return

    def deliver(self) -> None:
        """The answer to the oldest message arrives."""
        if self.messages and self.messages[0].grants is not None:
            message = self.messages.popleft()
            assert message.grants is not None
            granted = message.grants[0].granted
            for request, decision in self.table.settle(message.turns, message.grants, message.sent_at, self.fleet.now):
                from_pool = decision.allowed and granted > 0
                granted -= from_pool
                self.decide(request, decision, message.done_at if from_pool else self.fleet.now)

    def lose(self) -> None:
        """The time limit of the oldest message passes. It, or its answer, may still be somewhere."""
        if self.messages:
            self.lost.append(self.messages.popleft())
            for _, _, request in self.table.abandon():
                self.decide(request, Decision(False, 0.0, 1.0, 1.0), self.fleet.now)

    def surface(self) -> None:
        """The store comes upon a message that was given up long ago."""
        if self.lost and (message := self.lost.pop()).grants is None:
            self.fleet.store.take(self.name, message.asks)
            self.fleet.check()

    def crash(self) -> None:
        self.table = LeaseTable(lambda: None)
        self.lost.extend(self.messages)
        self.messages.clear()


@dataclass
class Fleet:
    policy: RateLimitPolicy
    size: int = 2
    now: float = 1000.0
    admitted: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryBuckets(lambda: self.now)
        self.replicas = [Replica(self, f"r{i}") for i in range(self.size)]

    def check(self) -> None:
        """Φ never exceeds the capacity."""
        for bucket in self.store.buckets.values():
            assert bucket.tokens + sum(lease.amount for lease in bucket.leases) <= self.policy.capacity + 1e-6

    def assert_within_limit(self) -> None:
        """A bucket that admits exactly these never goes below zero, which says the same of every window at once."""
        level, last = float(self.policy.capacity), 0.0
        for at in sorted(self.admitted):
            level = min(self.policy.capacity, level + (at - last) * self.policy.refill_rate) - 1
            last = at
            assert level >= -1e-6, f"{-level} too many at {at}"

    def settle_all(self, most: int = 2000) -> None:
        """Let every message through, one millisecond each way, until nobody waits and no lease is out."""
        for _ in range(most):
            for replica in self.replicas:
                replica.send()
            self.now += 0.001
            for replica in self.replicas:
                replica.execute()
            self.now += 0.001
            for replica in self.replicas:
                replica.deliver()
        assert all(len(r.decisions) == r.requests for r in self.replicas)


actions = st.one_of(
    st.tuples(st.just("request"), st.integers(1, 60)),
    st.tuples(st.just("pass"), st.sampled_from([0.0005, 0.003, 0.02, 0.05, 0.1, 0.11, 0.25, 1.0])),
    st.tuples(st.sampled_from(["exchange", "exchange", "send", "execute", "deliver"]), st.just(1)),
    st.tuples(st.sampled_from(["lose", "surface", "crash"]), st.just(1)),
)
policies = st.builds(
    RateLimitPolicy,
    name=st.just("default"),
    capacity=st.sampled_from([1, 3, 16, 20, 64, 100, 1000]),
    refill_rate=st.sampled_from([0.001, 1.0, 10.0, 100.0, 2000.0]),
)


@settings(max_examples=400, deadline=None)
@given(policies, st.integers(1, 4), st.lists(st.tuples(st.integers(0, 3), actions), max_size=120))
def test_never_admits_more_than_capacity_and_refill(
    policy: RateLimitPolicy, size: int, script: list[tuple[int, tuple[str, float]]]
) -> None:
    fleet = Fleet(policy, size)
    for who, (what, amount) in script:
        replica = fleet.replicas[who % size]
        if what == "request":
            for _ in range(int(amount)):
                replica.request()
        elif what == "pass":
            fleet.now += amount
        elif what == "exchange":
            replica.send()
            replica.execute()
            fleet.now += 0.001
            replica.deliver()
        else:
            getattr(replica, what)()
    fleet.assert_within_limit()


@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    size=st.integers(1, 3),
    capacity=st.sampled_from([64, 320, 1000]),
    refill_rate=st.sampled_from([0.001, 50.0, 500.0]),
    trouble=st.sampled_from([0.0, 0.02, 0.1, 0.3]),
    pause=st.sampled_from([0.0005, 0.005, 0.03]),
)
def test_never_admits_too_much_under_load(
    seed: int, size: int, capacity: int, refill_rate: float, trouble: float, pause: float
) -> None:
    """Steady load, which keeps leases out, with trouble strewn in; in the end everybody takes whatever there is."""
    rng = random.Random(seed)
    fleet = Fleet(RateLimitPolicy("default", capacity, refill_rate), size)
    for _ in range(150):
        replica = rng.choice(fleet.replicas)
        for _ in range(rng.choice([0, 1, 4, 12])):
            replica.request()
        replica.send()
        if rng.random() < trouble:
            getattr(replica, rng.choice(["lose", "lose", "surface", "surface", "crash"]))()
        for step in rng.choices([replica.execute, replica.deliver], k=3):
            step()
        fleet.now += rng.expovariate(1 / pause)
    for _ in range(capacity):
        for replica in fleet.replicas:
            for _ in range(8):
                replica.request()
            replica.send()
            replica.execute()
            replica.deliver()
        fleet.now += 0.0001
    fleet.assert_within_limit()


@settings(max_examples=200, deadline=None)
@given(
    capacity=st.sampled_from([1, 5, 16, 20, 50, 100, 320]),
    size=st.integers(1, 4),
    spread=st.sampled_from([0.0, 0.02, 0.3]),
    turns=st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40)), min_size=1, max_size=60),
)
def test_a_client_limited_to_n_gets_n(capacity: int, size: int, spread: float, turns: list[tuple[int, int]]) -> None:
    fleet = Fleet(RateLimitPolicy("default", capacity, 1e-6), size)
    for who, count in turns:
        for _ in range(count):
            fleet.replicas[who % size].request()
        for replica in fleet.replicas:
            replica.send()
            replica.execute()
            fleet.now += spread / len(turns) / size
            replica.deliver()
    fleet.settle_all(400)
    assert len(fleet.admitted) == min(capacity, sum(replica.requests for replica in fleet.replicas))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 30), min_size=5, max_size=40), st.integers(2, 4))
def test_a_client_under_its_limit_is_never_refused(bursts: list[int], size: int) -> None:
    """Bursts wander from replica to replica, and the bucket never comes near its end."""
    policy = RateLimitPolicy("default", 100, 100.0)
    fleet = Fleet(policy, size)
    for i, burst in enumerate(bursts):
        replica = fleet.replicas[i % size]
        for _ in range(burst):
            replica.request()
        fleet.settle_all(150)
    assert all(all(replica.decisions.values()) for replica in fleet.replicas)


@settings(max_examples=100, deadline=None)
@given(policies, st.lists(st.tuples(st.floats(0, 2), st.integers(1, 50)), max_size=60))
def test_a_bucket_in_memory_admits_capacity_and_refill(
    policy: RateLimitPolicy, script: list[tuple[float, int]]
) -> None:
    fleet = Fleet(policy, 0)
    table = BucketTable(policy)
    for wait, count in script:
        fleet.now += wait
        for _ in range(count):
            if table.take(CLIENT, fleet.now).allowed:
                fleet.admitted.append(fleet.now)
    fleet.assert_within_limit()

"""The bound on what is admitted while the store comes and goes: lost answers, late ones, and replicas that start anew.

Real `LeaseTable`s, `Alone`s and `Link`s and the real memory store, on one fake clock. The bound that docs/behaviour.md
states is one capacity above what holds with the store at hand.
"""

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.fleet.alone import Alone
from gateway.fleet.link import Link
from gateway.policy.lease import Account, LeaseTable
from gateway.policy.lease.ask import Ask, Grant
from gateway.policy.token_bucket import Decision, RateLimitPolicy, time_to_gain
from gateway.store.memory.buckets import MemoryBuckets
from gateway.store.port import StoreUnavailable

CLIENT = "192.0.2.1"
GONE = StoreUnavailable("no answer")


@dataclass
class Message:
    asks: list[Ask]
    turns: list[tuple[Account[int], int]]
    sent_at: float
    sender: str
    grants: list[Grant] | None = None


class Replica:
    """What the limiter does, with every message in the hands of the test. `messages[0]` may be waited for."""

    def __init__(self, fleet: "Fleet", name: str) -> None:
        self.fleet = fleet
        self.name = name
        self.life = 0
        self.waited_for: Message | None = None
        self.late: deque[Message] = deque()
        self.begin()

    def begin(self) -> None:
        """A new process, with a name of its own, that has had its first exchange with the store."""
        self.life += 1
        self.link = Link(lambda: self.fleet.now)
        self.leases: LeaseTable[int] = LeaseTable(lambda: None)
        self.alone = Alone("local", self.link, self.leases, 1000)
        self.link.returned = self.leases.remind
        self.link.back(self.fleet.size)
        self.number = 0

    def request(self) -> None:
        fleet = self.fleet
        self.number += 1
        if not self.link.up:
            self.decide(self.alone.take(fleet.policy, CLIENT, fleet.now))
            return
        decision = self.leases.try_take(fleet.policy, CLIENT, fleet.now)
        if decision is None:
            self.alone.owe(fleet.policy, CLIENT, fleet.now)
            decision = self.leases.enter(fleet.policy, CLIENT, self.number, fleet.now)
        if decision is not None:
            self.decide(decision)

    def decide(self, decision: Decision) -> None:
        if decision.allowed:
            self.fleet.admitted.append(self.fleet.now)

    def send(self) -> None:
        now = self.fleet.now
        self.leases.wake(now)
        if self.link.up and self.waited_for is None:
            self.alone.owe_some(8, now)
            if accounts := self.leases.next_asks(now, 8):
                asks = [
                    Ask(a.policy, a.client, a.want, a.lease, a.unspent, a.lease_id, a.debt_sent, a.debt_id)
                    for a in accounts
                ]
                self.waited_for = Message(asks, [(a, a.turn) for a in accounts], now, f"{self.name}/{self.life}")

    def execute(self) -> None:
        """The store acts on the oldest message that it has not seen."""
        for message in [*self.late, *([self.waited_for] if self.waited_for else [])]:
            if message.grants is None:
                message.grants = self.fleet.store.take(message.sender, message.asks)
                return

    def deliver(self) -> None:
        message = self.waited_for
        if message is not None and message.grants is not None:
            self.waited_for = None
            for _, decision in self.leases.settle(message.turns, message.grants, message.sent_at, self.fleet.now):
                self.decide(decision)

    def lose(self) -> None:
        """The time limit passes, or the sync loop meets a store that does not answer."""
        if self.waited_for is not None:
            self.late.append(self.waited_for)
            self.waited_for = None
        self.link.lost(GONE)
        for policy, client, _ in self.leases.abandon():
            self.decide(self.alone.take(policy, client, self.fleet.now))

    def deliver_late(self) -> None:
        if self.late and self.late[0].grants is not None:
            message = self.late.popleft()
            self.leases.settle_late(message.turns, message.grants or [], message.sent_at, self.fleet.now)

    def forget_late(self) -> None:
        """The connection breaks: whatever the store did with the message, nobody hears of it."""
        if self.late:
            self.late.popleft()

    def back(self) -> None:
        self.link.back(self.fleet.size)

    def restart(self) -> None:
        """In order: it tells what it owes."""
        for _ in range(10):
            self.back()
        self.exchange()
        self.kill()

    def kill(self) -> None:
        self.waited_for = None
        self.begin()

    def exchange(self) -> None:
        for _ in range(3):
            self.send()
            self.execute()
            self.deliver()


@dataclass
class Fleet:
    policy: RateLimitPolicy
    size: int
    now: float = 1000.0
    admitted: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = MemoryBuckets(lambda: self.now)
        self.replicas = [Replica(self, f"r{i}") for i in range(self.size)]

    def excess(self) -> float:
        """The most, over every window, by which what was admitted exceeds capacity + refill_rate · t."""
        level, last, lowest = float(self.policy.capacity), 0.0, 0.0
        for at in self.admitted:
            level = min(self.policy.capacity, level + (at - last) * self.policy.refill_rate) - 1
            last = at
            lowest = min(lowest, level)
        return -lowest


steps = st.one_of(
    st.tuples(st.just("request"), st.integers(1, 60)),
    st.tuples(st.just("pass"), st.sampled_from([0.0005, 0.003, 0.02, 0.05, 0.1, 0.25, 0.5])),
    st.tuples(
        st.sampled_from(
            [
                "exchange",
                "exchange",
                "send",
                "execute",
                "deliver",
                "lose",
                "lose",
                "back",
                "back",
                "deliver_late",
                "forget_late",
                "restart",
            ]
        ),
        st.just(0),
    ),
)


@settings(max_examples=500, deadline=None)
@given(
    capacity=st.sampled_from([20, 64, 100, 1000]),
    fills=st.sampled_from([2.0, 10.0, 1e5]),
    size=st.sampled_from([1, 2, 4]),
    script=st.lists(st.tuples(st.integers(0, 3), steps), max_size=150),
)
def test_one_capacity_more_at_most(
    capacity: int, fills: float, size: int, script: list[tuple[int, tuple[str, float]]]
) -> None:
    """No replica is without the store for longer than the bucket takes to fill."""
    policy = RateLimitPolicy("default", capacity, capacity / fills, max_ttl=1e6)
    fleet = Fleet(policy, size)
    for who, (what, amount) in script:
        replica = fleet.replicas[who % size]
        if what == "request":
            for _ in range(int(amount)):
                replica.request()
        elif what == "pass":
            fleet.now += amount
            for each in fleet.replicas:
                if not each.link.up and fleet.now - each.link.since > time_to_gain(policy, capacity) / 2:
                    for _ in range(10):
                        each.back()
                    each.exchange()
        else:
            getattr(replica, what)()
    assert fleet.excess() <= capacity + 1e-6


@pytest.mark.parametrize("answer", ["late", "lost", "in time"])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_excess_does_not_grow_with_time(answer: str, size: int) -> None:
    """A store that hovers at the time limit for ten minutes, and a client that always asks for more than it may."""
    policy = RateLimitPolicy("default", 100, 50.0)
    fleet = Fleet(policy, size)
    for turn in range(6000):
        for replica in fleet.replicas:
            for _ in range(10):
                replica.request()
            replica.send()
            replica.execute()
            if answer == "in time" or turn % 3:
                replica.deliver()
            else:
                replica.lose()
                (replica.deliver_late if answer == "late" else replica.forget_late)()
                replica.request()
            replica.back()
        fleet.now += 0.1
    assert fleet.excess() <= policy.capacity
    if answer != "lost":
        # And the client gets what it is promised. (Of an answer that is lost the store's grants are lost too.)
        assert len(fleet.admitted) >= 0.9 * policy.refill_rate * 600


def test_a_replica_that_is_killed_takes_its_share_with_it_and_no_more() -> None:
    policy = RateLimitPolicy("default", 100, 0.001)
    fleet = Fleet(policy, 2)
    for killed in range(2):
        for replica in fleet.replicas:
            replica.lose()
            for _ in range(100):
                replica.request()
        fleet.replicas[killed].kill()
        for _ in range(10):
            fleet.replicas[1 - killed].back()
            fleet.replicas[1 - killed].exchange()
    assert len(fleet.admitted) <= 2 * policy.capacity


def test_a_debt_is_told_although_the_client_never_comes_again() -> None:
    policy = RateLimitPolicy("default", 100, 0.001)
    fleet = Fleet(policy, 2)
    first, second = fleet.replicas
    first.lose()
    for _ in range(60):
        first.request()
    assert len(fleet.admitted) == 50  # its share
    first.back()
    first.exchange()
    for _ in range(100):
        second.request()
        second.exchange()
    assert len(fleet.admitted) == 100


def test_a_debt_whose_answer_is_lost_is_told_once() -> None:
    policy = RateLimitPolicy("default", 100, 0.001)
    fleet = Fleet(policy, 1)
    (replica,) = fleet.replicas
    replica.lose()
    for _ in range(30):
        replica.request()
    for _ in range(3):
        for _ in range(10):
            replica.back()
        replica.send()
        replica.execute()
        replica.lose()
        replica.forget_late()
    for _ in range(10):
        replica.back()
    replica.exchange()
    (grant,) = fleet.store.take("other", [Ask(policy, CLIENT, 0)])
    assert grant.remaining == pytest.approx(70, abs=0.1)

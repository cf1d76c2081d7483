"""The concurrency limit as a state machine: every slot and every place in the queue has exactly one fate."""

import math

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.policy.limit import ConcurrencyLimit, LimitSettings
from gateway.policy.priority import BY_PRIORITY, WHOLE, caps
from gateway.policy.waiting import Waiter

CLASSES = st.integers(0, 4)
CLIENTS = st.sampled_from(["a", "b", "c"])


class Limit(RuleBasedStateMachine):
    """`holders` counts slots as the callers see them; `waiting` is the queue as a plain list."""

    @initialize(
        limit=st.integers(1, 12),
        max_queue=st.integers(0, 8),
        queue_timeout=st.sampled_from([0.0, 1.0, 3.0]),
        client_share=st.sampled_from([0.25, 1.0]),
        percents=st.sampled_from([WHOLE, BY_PRIORITY]),
    )
    def begin(
        self, limit: int, max_queue: int, queue_timeout: float, client_share: float, percents: tuple[int, ...]
    ) -> None:
        self.settings = LimitSettings(limit, max_queue, queue_timeout, client_share)
        self.percents = percents
        self.limit = ConcurrencyLimit(self.settings, percents)
        self.now = 0.0
        self.holders = 0
        self.waiting: list[Waiter] = []
        self.settled: list[Waiter] = []
        self.arrivals = 0

    def live(self) -> list[Waiter]:
        return [waiter for waiter in self.waiting if waiter.deadline > self.now]

    def settle(self, waiter: Waiter) -> None:
        assert waiter not in self.settled
        self.waiting.remove(waiter)
        self.settled.append(waiter)

    def resume(self, waiter: Waiter) -> None:
        """Nobody of a better class waits, and it is within the share of its own."""
        live = self.live()
        assert waiter in live
        assert waiter.priority == min(each.priority for each in live)
        assert self.holders < self.limit.caps[waiter.priority]
        self.holders += 1
        self.settle(waiter)

    @rule(priority=CLASSES, client=CLIENTS)
    def arrive(self, priority: int, client: str) -> None:
        admitted = self.limit.try_acquire(priority)
        assert admitted == (self.holders < self.limit.caps[priority])
        if admitted:
            assert not [each for each in self.live() if each.priority <= priority], "a newcomer overtook"
            self.holders += 1
            return
        self.arrivals += 1
        may_wait = self.limit.may_wait(priority, client)
        waiter = self.limit.enqueue(self.arrivals, self.now, priority, client)
        assert (waiter is not None) == may_wait
        if waiter is not None:
            assert waiter.deadline == self.now + self.settings.queue_timeout > self.now
            self.waiting.append(waiter)
            assert self.limit.queued <= self.settings.max_queue
            most = max(1, math.ceil(self.settings.max_queue * self.settings.client_share))
            assert sum(each.client == client for each in self.limit.queue) <= most

    @precondition(lambda self: self.holders > 0)
    @rule()
    def release(self) -> None:
        resumed = self.limit.release(self.now)
        self.holders -= 1
        if resumed is not None:
            self.resume(resumed)

    @rule(limit=st.integers(1, 12))
    def resize(self, limit: int) -> None:
        resumed = self.limit.resize(limit, self.now)
        assert (self.limit.limit, self.limit.caps) == (limit, caps(limit, self.percents))
        for waiter in resumed:
            self.resume(waiter)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        waiter = data.draw(st.sampled_from(self.waiting))
        assert self.limit.abandon(waiter)
        self.settle(waiter)

    @precondition(lambda self: self.settled)
    @rule(data=st.data())
    def leave_too_late(self, data: st.DataObject) -> None:
        assert not self.limit.abandon(data.draw(st.sampled_from(self.settled)))

    @rule()
    def expire(self) -> None:
        due = [waiter for waiter in self.waiting if waiter.deadline <= self.now]
        assert self.limit.expire(self.now) == due
        for waiter in due:
            self.settle(waiter)

    @rule(seconds=st.sampled_from([0.01, 0.25, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def slots_are_neither_lost_nor_made(self) -> None:
        assert self.limit.in_flight == self.holders

    @invariant()
    def nobody_waits_while_a_slot_is_free_for_them(self) -> None:
        assert all(self.holders >= self.limit.caps[waiter.priority] for waiter in self.live())

    @invariant()
    def the_next_deadline_is_the_oldest_waiter_s(self) -> None:
        deadline = self.limit.next_deadline
        assert deadline == (self.waiting[0].deadline if self.waiting else None)


Limit.TestCase.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
TestLimit = Limit.TestCase

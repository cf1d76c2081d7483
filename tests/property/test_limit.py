"""The concurrency limit as a state machine: every slot and every place in the queue has exactly one fate."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from gateway.policy.limit import ConcurrencyLimit, LimitSettings, Waiter


class Limit(RuleBasedStateMachine):
    """`holders` counts slots as the callers see them; `waiting` is the queue as a plain list."""

    @initialize(limit=st.integers(1, 4), max_queue=st.integers(0, 5), queue_timeout=st.sampled_from([0.0, 1.0, 3.0]))
    def begin(self, limit: int, max_queue: int, queue_timeout: float) -> None:
        self.settings = LimitSettings(limit, max_queue, queue_timeout)
        self.limit = ConcurrencyLimit(self.settings)
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

    @rule()
    def arrive(self) -> None:
        admitted = self.limit.try_acquire()
        assert admitted == (self.holders < self.limit.limit)
        if admitted:
            assert not self.live(), "a newcomer overtook"
            self.holders += 1
            return
        self.arrivals += 1
        waiter = self.limit.enqueue(self.arrivals, self.now)
        if waiter is not None:
            assert waiter.deadline == self.now + self.settings.queue_timeout > self.now
            self.waiting.append(waiter)
            assert len(self.live()) <= self.settings.max_queue

    @precondition(lambda self: self.holders > 0)
    @rule()
    def release(self) -> None:
        oldest = self.live()[:1]
        resumed = self.limit.release(self.now)
        assert ([resumed] if resumed else []) == oldest
        if resumed is None:
            self.holders -= 1
        else:
            self.settle(resumed)

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

    @rule(seconds=st.sampled_from([0.25, 1.0, 5.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def slots_are_neither_lost_nor_made(self) -> None:
        assert self.limit.in_flight == self.holders

    @invariant()
    def nobody_waits_while_a_slot_is_free(self) -> None:
        assert not self.live() or self.holders >= self.limit.limit

    @invariant()
    def the_next_deadline_is_the_oldest_waiter_s(self) -> None:
        deadline = self.limit.next_deadline
        assert deadline == (self.waiting[0].deadline if self.waiting else None)


Limit.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestLimit = Limit.TestCase

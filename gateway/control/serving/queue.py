"""Who is answered by the control plane, and when: everything beyond the polled answers has a share of the loop's time.

Reads of the control plane are open to everybody who reaches its port, and some of them take milliseconds. So their cost
is measured (`metered`) and charged to one `Allowance`. While that is used up, requests wait. Each peer has a queue of
its own and the peers take turns, so a peer that asks without end delays itself. While many requests wait, further ones
are refused.

An operator with the token never waits, because during an attack the operator must be able to act.
"""

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Coroutine, Generator
from typing import Any, Generic, Protocol, TypeVar

from gateway.control.serving.allowance import Allowance

SHARE = 0.2
BURST = 0.2
MAX_WAITING = 256
MAX_WAITING_OF_PEER = 32
# Between two requests that are let in there is at least this time, so that requests which come at once do not make one
# long turn of the loop.
_TICK = 0.001
# After so much work in one turn of the loop, in seconds, the rest is for the next turn. Requests that wait for the same
# answer of the store would otherwise all go on in the turn in which it comes.
_LONG_TURN = 0.002
# What a request costs besides its answer: accepting, parsing, closing.
_OVERHEAD = 0.000_2


T = TypeVar("T")


class Waiting:
    """A request that waits; `cancel` gives the place up."""

    __slots__ = ("go",)

    def __init__(self, go: Callable[[], None]) -> None:
        self.go: Callable[[], None] | None = go

    def cancel(self) -> None:
        """Leave the queue: the one who waits is gone."""
        self.go = None


class Queue:
    """Lets requests in one by one. The requests of one peer are let in in the order in which they came."""

    def __init__(self, allowance: Allowance | None = None) -> None:
        self._allowance = allowance or Allowance(share=SHARE, burst=BURST)
        self._peers: OrderedDict[str, deque[Waiting]] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None
        self._spent_in_turn = 0.0

    def __len__(self) -> int:
        return sum(len(each) for each in self._peers.values())

    def enter(self, peer: str, go: Callable[[], None]) -> Waiting | None:
        """Let a request in: `go` is called at once or later. Returns None, and never calls it, when too many wait
        already."""
        waiting = Waiting(go)
        if self._timer is None and self._allowance.open:
            self._let_in(waiting)
            return waiting
        queue = self._peers.get(peer)
        if len(self) >= MAX_WAITING or (queue is not None and len(queue) >= MAX_WAITING_OF_PEER):
            return None
        if queue is None:
            queue = self._peers[peer] = deque()
        queue.append(waiting)
        if self._timer is None:
            self._look_later()
        return waiting

    def spend(self, seconds: float) -> None:
        """Charge `seconds` of the loop's time to the control plane, and to the present turn of the loop."""
        self._allowance.spend(seconds)
        if not self._spent_in_turn:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._spent_in_turn += seconds

    @property
    def turn_is_over(self) -> bool:
        """Whether this turn of the loop has had enough of the control plane's work."""
        return self._spent_in_turn >= _LONG_TURN

    def _next_turn(self) -> None:
        self._spent_in_turn = 0.0

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(_TICK, self._look)

    def _look(self) -> None:
        self._timer = None
        while self._peers and self._allowance.open:
            peer, queue = self._peers.popitem(last=False)
            waiting = queue.popleft()
            if queue:
                self._peers[peer] = queue
            if waiting.go is not None:
                self._let_in(waiting)
                return
        if self._peers:
            self._look_later()

    def _let_in(self, waiting: Waiting) -> None:
        self._look_later()
        go, waiting.go = waiting.go, None
        self._allowance.spend(_OVERHEAD)
        if go is not None:
            go()


class Meter(Protocol):
    """`Queue`, as what it meters sees it."""

    @property
    def turn_is_over(self) -> bool:
        """Whether the work should wait for a later turn of the loop."""
        ...

    def spend(self, seconds: float) -> None:
        """Charge `seconds` of the loop's time."""
        ...


class metered(Generic[T]):  # noqa: N801 - used as a function is: `await metered(...)`
    """Awaits a coroutine; charges the time for which it runs, but not that for which it waits; and lets it go on in a
    later turn of the loop when this one is over."""

    def __init__(
        self, work: Coroutine[Any, Any, T], meter: Meter, clock: Callable[[], float] = time.thread_time
    ) -> None:
        self._work = work
        self._meter = meter
        self._clock = clock

    def __await__(self) -> Generator[Any, Any, T]:
        work, meter, clock = self._work, self._meter, self._clock
        answer: Any = None
        thrown: BaseException | None = None
        while True:
            try:
                while thrown is None and meter.turn_is_over:
                    # A task that yields nothing is called again in the next turn.
                    yield None
            except BaseException as error:  # noqa: BLE001 - whatever it is: it is for the coroutine
                thrown = error
            began = clock()
            try:
                awaited = work.send(answer) if thrown is None else work.throw(thrown)
            except StopIteration as stop:
                returned: T = stop.value
                return returned
            finally:
                meter.spend(clock() - began)
            answer, thrown = None, None
            try:
                answer = yield awaited
            except BaseException as error:  # noqa: BLE001 - whatever it is: it is for the coroutine
                thrown = error

"""Claims of this process: taking them, holding them, ending them, and waiting for those of others.

    claim    one statement; only if somebody else has the record another one, to see what it says
    renew    half-way through each lease, for as long as the request lasts; soon again where that fails
    ending   one statement, compared to owner and fence. If the journal is away, it is tried again until the lease has
             ended; what cannot be written by then is an unknown outcome, and that is what the record comes to say

A claim whose answer was lost (`unsure`) may have been written. It is released as soon as the journal is back, so that
the key is not blocked by a request that was refused.

Nothing here awaits: results come to callbacks, on the event loop.
"""

import asyncio
import logging
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final

from gateway.idempotency.capacity import Capacity
from gateway.idempotency.promise import Claim
from gateway.journal import idempotency as records
from gateway.journal.idempotency import Found, Kept
from gateway.journal.port import Journal, JournalUnavailable, Operation, Rows, Step

log = logging.getLogger("gateway.idempotency")

_TICK: Final = 0.25
_FIRST_LOOK: Final = 0.05
_LAST_LOOK: Final = 0.5
# A record that goes away between claim and look was released: the claim is made again.
_MOST_TRIES: Final = 3
_MOST_UNWRITTEN: Final = 1000
_RENEW_AGAIN: Final = 1.0


class ClaimLost(Exception):
    """Somebody else has taken the record meanwhile."""


class Full:
    """The answer to a claim for which there is no room."""

    __slots__ = ()


FULL: Final = Full()

Outcome = Claim | Found | Full | JournalUnavailable
Told = Callable[[Outcome], None]
Done = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Ask:
    """What is to be claimed. `key` is what the record is found by; `lease` and `ttl` in seconds. `retry`: a record
    whose outcome is unknown may be taken."""

    key: bytes
    route: str
    lease: float
    ttl: float
    retry: bool


class Claims:
    """`late` counts endings that came after somebody else had taken the record: they have changed nothing."""

    def __init__(
        self,
        journal: Journal,
        capacity: Capacity,
        loop: asyncio.AbstractEventLoop,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.late = 0
        self._journal = journal
        self._capacity = capacity
        self._loop = loop
        self._clock = clock
        self._process = uuid.uuid4().hex
        self._numbers = count(1)
        self._held: set[Claim] = set()
        self._unwritten: deque[tuple[Claim, Step, float]] = deque()
        self._waiting: dict[bytes, list[Done]] = {}
        self._ticking: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"<Claims held={len(self._held)} unwritten={len(self._unwritten)}>"

    @property
    def held(self) -> int:
        """Claims of requests that are under way here."""
        return len(self._held)

    def claim(self, ask: Ask, told: Told, tries: int = 0) -> None:
        """Take the record of a key. `told` is called once, later: with the claim, with what somebody else's record
        says, or with why it cannot be taken."""
        if self._capacity.full:
            self._look(ask, told, tries, full=True)
            return
        # Never used twice, so that an ending can only meet the record that it belongs to.
        owner = f"{self._process}-{next(self._numbers)}"
        step = records.claim(ask.key, ask.route, owner, ask.lease, ask.ttl, retry=ask.retry)
        self._journal.run(step).add_done_callback(partial(self._claimed, ask, told, owner, tries))

    def look_again(self, key: bytes, seconds: float, woken: Done) -> Callable[[], None]:
        """Call `woken` once when the record of a key may have changed: at once when its holder is of this process, else
        after some time, which is longer the longer one waits; `seconds` is for how long that has been. Returns what
        takes it back."""
        pause = min(_LAST_LOOK, max(_FIRST_LOOK, seconds / 4))
        called = False

        def once() -> None:
            nonlocal called
            if not called:
                end()
                woken()

        def end() -> None:
            nonlocal called
            called = True
            timer.cancel()
            waiting = self._waiting.get(key, [])
            if once in waiting:
                waiting.remove(once)
            if not waiting:
                self._waiting.pop(key, None)

        timer = self._loop.call_later(pause, once)
        self._waiting.setdefault(key, []).append(once)
        return end

    # Endings. `done` is called when it is written, or when it is certain that this takes longer.

    def finish(self, claim: Claim, kept: Kept, done: Done) -> None:
        """The answer is there."""
        self._settle(claim, records.finish(claim.held, kept), done)

    def unknown(self, claim: Claim, done: Done) -> None:
        """The upstream may have acted on it, and there is no answer that says so."""
        self._settle(claim, records.unknown(claim.held), done)

    def release(self, claim: Claim, done: Done) -> None:
        """Nothing was done."""
        self._settle(claim, records.release(claim.held), done)

    def ended_with(self, claim: Claim, kept: Kept, operation: Operation[None]) -> Operation[None]:
        """`operation`, with the answer to its request in the same commit. Raises ClaimLost, and then nothing of it has
        happened. Once it is committed, `ended` is to be called."""
        yield from operation
        if not (yield records.finish(claim.held, kept)):
            raise ClaimLost

    def ended(self, claim: Claim) -> None:
        """What `ended_with` has made is committed."""
        claim.settled = True
        self._held.discard(claim)
        self._wake(claim)

    def close(self) -> None:
        """Nothing is tried again any more."""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None

    # Claiming.

    def _claimed(self, ask: Ask, told: Told, owner: str, tries: int, answer: "asyncio.Future[Rows]") -> None:
        why = _failure(answer)
        now = self._clock()
        if why is not None:
            if why.unsure:
                maybe = Claim(ask.key, ask.route, owner, 1, ask.lease, now)
                self._later(maybe, records.release_own(ask.key, owner))
            told(why)
            return
        fence = records.fence_of(answer.result())
        if fence is None:
            self._look(ask, told, tries)
            return
        claim = Claim(ask.key, ask.route, owner, fence, ask.lease, now)
        self._held.add(claim)
        self._capacity.added()
        self._tick()
        told(claim)

    def _look(self, ask: Ask, told: Told, tries: int, *, full: bool = False) -> None:
        self._journal.run(records.look(ask.key)).add_done_callback(partial(self._looked, ask, told, tries, full))

    def _looked(self, ask: Ask, told: Told, tries: int, full: bool, answer: "asyncio.Future[Rows]") -> None:
        why = _failure(answer)
        if why is not None:
            told(why)
            return
        rows = answer.result()
        if rows:
            told(records.found(rows[0]))
        elif full:
            told(FULL)
        elif tries < _MOST_TRIES:
            self.claim(ask, told, tries + 1)
        else:
            told(JournalUnavailable("locked", "the record of the key comes and goes"))

    # Ending.

    def _settle(self, claim: Claim, step: Step, done: Done) -> None:
        claim.settled = True
        self._held.discard(claim)
        self._journal.run(step).add_done_callback(partial(self._settled, claim, step, done))

    def _settled(self, claim: Claim, step: Step, done: Done | None, answer: "asyncio.Future[Rows]") -> None:
        why = _failure(answer)
        if why is not None and why.trouble != "closed":
            self._later(claim, step)
        elif why is None and not answer.result():
            # Somebody else has the record by now; or an ending whose answer was lost has been written.
            self.late += 1
            log.warning(
                "the record of an idempotency key was taken over before its request had ended",
                extra={"event": "idempotency_late", "route": claim.route},
            )
        if done is not None:
            done()
        self._wake(claim)

    def _later(self, claim: Claim, step: Step) -> None:
        """Try again until the lease has ended."""
        if len(self._unwritten) >= _MOST_UNWRITTEN:
            self._unwritten.popleft()
        self._unwritten.append((claim, step, self._clock() + claim.lease))
        self._tick()

    def _tick(self) -> None:
        if self._ticking is None:
            self._ticking = self._loop.call_later(_TICK, self._ticked)

    def _ticked(self) -> None:
        self._ticking = None
        now = self._clock()
        for claim in self._held:
            if now >= claim.renew_at:
                claim.renew_at = now + claim.lease / 2
                renewal = self._journal.run(records.renew(claim.held, claim.lease))
                renewal.add_done_callback(partial(self._renewed, claim))
        if self._unwritten and self._journal.state.works:
            unwritten, self._unwritten = self._unwritten, deque()
            for claim, step, until in unwritten:
                if now < until:
                    again = self._journal.run(step)
                    again.add_done_callback(partial(self._written, claim, step, until))
        elif self._unwritten:
            self._unwritten = deque(each for each in self._unwritten if now < each[2])
        if self._held or self._unwritten:
            self._tick()

    def _renewed(self, claim: Claim, answer: "asyncio.Future[Rows]") -> None:
        if _failure(answer) is not None:
            claim.renew_at = self._clock() + _RENEW_AGAIN

    def _written(self, claim: Claim, step: Step, until: float, answer: "asyncio.Future[Rows]") -> None:
        why = _failure(answer)
        if why is not None and why.trouble != "closed":
            self._unwritten.append((claim, step, until))
            self._tick()
            return
        self._wake(claim)

    def _wake(self, claim: Claim) -> None:
        for woken in list(self._waiting.get(claim.key, ())):
            woken()


def _failure(answer: "asyncio.Future[Rows]") -> JournalUnavailable | None:
    """Why there are no rows; None where there are. Whatever has gone wrong, a request must not wait for ever."""
    if answer.cancelled():
        return JournalUnavailable("closed", "the gateway is stopping")
    error = answer.exception()
    if error is None or isinstance(error, JournalUnavailable):
        return error
    log.error("the journal failed", exc_info=error)
    return JournalUnavailable("failed", str(error), unsure=True)

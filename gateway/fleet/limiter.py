"""Rate limiting as the request path sees it: `try_take` answers at once or says None, and then `take` answers later.

`SharedLimiter` does the I/O for a `LeaseTable`. It makes one call at a time, with everything that has come up since the
last one, so that batches grow with the load. No call belongs to a single request. When the store fails, or has not
answered within its time limit, everything that waits is decided without it at once, and so is everything else until the
link is up again (see `gateway.fleet.alone`). A call that is late goes on, because its answer says what the store has
done.

When the link is up again the store is told in batches what was admitted meanwhile, even if the clients do not come
again.

Left out on purpose: noticing that the store is back (the sync loop does), and the header fields.
"""

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Final, Literal

from mypy_extensions import mypyc_attr

from gateway.alarm import Alarm
from gateway.fleet.alone import Alone
from gateway.fleet.link import Link
from gateway.policy.lease import Account, LeaseTable
from gateway.policy.lease.ask import Ask
from gateway.policy.token_bucket import Decision, RateLimitPolicy
from gateway.store.port import Store, StoreUnavailable

Resume = Callable[[Decision], None]
"""What is called with the decision about one request."""

MAX_BATCH: Final = 128
"""The buckets in one call. The store works on them for about half a millisecond, and serves nobody else meanwhile."""

CLOSING: Final = 1.0
"""The seconds that closing may take to tell the store what it does not know."""


@mypyc_attr(allow_interpreted_subclasses=True)
class Limiter:
    """What the gates use. `now` is `time.monotonic()`, or the clock the limiter was given.

    A class and no protocol: each request calls it, and a call of a class is what mypyc makes fast.
    """

    def try_take(self, policy: RateLimitPolicy, client: str, now: float) -> Decision | None:
        """HOT. Take one token of the client's bucket; None when that cannot be decided here and now."""
        raise NotImplementedError

    def take(self, policy: RateLimitPolicy, client: str, resume: Resume) -> None:
        """Take one token and call `resume` with the decision, exactly once: at once, or later from the event loop.

        Raises nothing, and cannot be taken back: a request that is gone by then has used its token.
        """
        raise NotImplementedError

    def untake(self, policy: RateLimitPolicy, client: str) -> None:
        """Take back a `try_take` that has just given a token, in the same turn of the event loop. HOT."""
        raise NotImplementedError

    def refund(self, policy: RateLimitPolicy, client: str) -> None:
        """Give back a token that `take` gave. What the bucket has no room for is lost: there are never too many."""
        raise NotImplementedError

    async def peek(self, policy: RateLimitPolicy, client: str) -> Decision:
        """What a request would be told now, without taking a token. Raises nothing."""
        raise NotImplementedError

    async def close(self) -> None:
        """Decide what waits and stop. Later requests are decided without the store."""
        raise NotImplementedError


class SharedLimiter(Limiter):
    """The buckets are shared through `store`. `on_failure` says what decides while the store is away.

    Made and used on one event loop.
    """

    def __init__(
        self,
        store: Store,
        link: Link,
        on_failure: Literal["local", "open", "closed"] = "local",
        clock: Callable[[], float] = time.monotonic,
        max_clients: int = 65_536,
    ) -> None:
        self._store = store
        self._link = link
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._leases: LeaseTable[Resume] = LeaseTable(self._notice, max_clients)
        self._alone = Alone(on_failure, link, self._leases, max_clients)
        self._call: asyncio.Task[None] | None = None
        self._late: set[asyncio.Task[None]] = set()
        self._soon: asyncio.Handle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        link.returned = self._returned

    def __repr__(self) -> str:
        return f"<SharedLimiter {self._link!r} {'asking' if self._call else 'idle'} {self._leases!r}>"

    def try_take(self, policy: RateLimitPolicy, client: str, now: float) -> Decision | None:
        """HOT."""
        if self._link.up:
            return self._leases.try_take(policy, client, now)
        return self._alone.take(policy, client, now)

    def take(self, policy: RateLimitPolicy, client: str, resume: Resume) -> None:
        now = self._clock()
        if self._closed or not self._link.up:
            resume(self._alone.take(policy, client, now))
            return
        self._alone.owe(policy, client, now)
        decision = self._leases.enter(policy, client, resume, now)
        if decision is not None:
            resume(decision)

    def untake(self, policy: RateLimitPolicy, client: str) -> None:
        """HOT."""
        if self._link.up:
            self._leases.untake(policy, client)
        else:
            self._alone.refund(policy, client)

    def refund(self, policy: RateLimitPolicy, client: str) -> None:
        if self._link.up:
            self._leases.refund(policy, client, self._clock())
        else:
            self._alone.refund(policy, client)

    async def peek(self, policy: RateLimitPolicy, client: str) -> Decision:
        if self._link.up:
            try:
                async with asyncio.timeout(self._store.time_limit):
                    # An ask for nothing changes nothing (see `Ask`).
                    (grant,) = await self._store.take([Ask(policy, client, 0)])
            except TimeoutError:
                pass
            except StoreUnavailable as exc:
                self._link.lost(exc)
            else:
                tokens = grant.remaining + self._leases.held(policy, client, self._clock())
                if tokens >= 1.0:
                    return Decision(True, tokens - 1.0, 0.0, grant.reset_after)
                return Decision(False, max(0.0, tokens), grant.retry_after, grant.reset_after)
        return self._alone.peek(policy, client, self._clock())

    async def close(self) -> None:
        """Decide what waits, give back the leases and tell what is owed, in about a second at most."""
        self._closed = True
        self._cancel()
        end = self._clock() + CLOSING
        calls = [*self._late, *([self._call] if self._call is not None else [])]
        if calls:
            await asyncio.wait(calls, timeout=CLOSING)
        await self._drain(end)
        self._abandon()
        self._leases.give_back()
        await self._drain(end)
        self._cancel()

    async def _drain(self, end: float) -> None:
        while self._link.up and (now := self._clock()) < end:
            self._alone.owe_some(MAX_BATCH, now)
            asks = self._leases.next_asks(now, MAX_BATCH)
            if not asks:
                return
            await self._exchange(asks)

    def _returned(self) -> None:
        if not self._closed:
            self._leases.remind()
            self._notice()

    def _notice(self) -> None:
        # The lease table has something to ask, or an earlier instant to wake at. More may come in this turn of the
        # loop, so the call is made at its end.
        if self._soon is None and not self._closed:
            self._soon = self._loop.call_soon(self._pump)

    def _pump(self) -> None:
        self._soon = None
        now = self._clock()
        leases = self._leases
        leases.wake(now)
        if not self._link.up:
            # `wake` has just put accounts in line. If they were left there, they would wait for ever.
            self._abandon()
        while self._link.up and self._call is None:
            self._alone.owe_some(MAX_BATCH - leases.in_line, now)
            if not leases.in_line:
                break
            asks = leases.next_asks(now, MAX_BATCH)
            if asks:
                self._call = self._loop.create_task(self._exchange(asks))
                self._call.add_done_callback(self._called)
        self._cancel()
        wake = leases.next_wake
        if wake < float("inf") and not self._closed:
            self._timer = self._loop.call_later(max(0.0, wake - self._clock()), self._notice)

    def _called(self, call: "asyncio.Task[None]") -> None:
        self._late.discard(call)
        if self._call is call:
            self._call = None
        if not call.cancelled():
            call.result()  # raises what is a defect of this program, and the loop reports it
        self._notice()

    async def _exchange(self, accounts: list[Account[Resume]]) -> None:
        sent_at = self._clock()
        asks = [
            Ask(a.policy, a.client, a.want, a.lease, a.unspent, a.lease_id, a.debt_sent, a.debt_id) for a in accounts
        ]
        turns = [(account, account.turn) for account in accounts]
        limit = self._store.time_limit
        alarm = Alarm(self._loop, limit, partial(self._overdue, limit))
        try:
            grants = await self._store.take(asks)
        except StoreUnavailable as unavailable:
            if not alarm.rang:
                self._link.lost(unavailable)
                self._abandon()
            return
        except Exception as exc:
            # The loop reports a defect of the store, but no request may wait for ever because of it.
            self._link.lost(StoreUnavailable(f"the store failed ({type(exc).__name__})"))
            self._abandon()
            raise
        finally:
            alarm.cancel()
        if alarm.rang:
            self._leases.settle_late(turns, grants, sent_at, self._clock())
            return
        for resume, decision in self._leases.settle(turns, grants, sent_at, self._clock()):
            self._tell(resume, decision)

    def _overdue(self, limit: float) -> None:
        # The call goes on, because its answer says what the store has done. Nobody waits for it.
        if self._call is not None:
            self._late.add(self._call)
            self._call = None
        self._link.lost(self._link.late(limit))
        self._abandon()

    def _abandon(self) -> None:
        now = self._clock()
        for policy, client, resume in self._leases.abandon():
            self._tell(resume, self._alone.take(policy, client, now))

    def _tell(self, resume: Resume, decision: Decision) -> None:
        try:
            resume(decision)
        except Exception as exc:  # noqa: BLE001 - one request's failure must not become that of those behind it
            self._loop.call_exception_handler({"message": "resuming a rate-limited request failed", "exception": exc})

    def _cancel(self) -> None:
        for handle in (self._soon, self._timer):
            if handle is not None:
                handle.cancel()
        self._soon = self._timer = None

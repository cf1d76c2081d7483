"""What is asked of the store, and what its answers mean."""

from collections.abc import Iterable, Sequence
from math import inf
from typing import Generic

from gateway.policy.lease.account import ASKING, IDLE, PARKED, Account, W
from gateway.policy.lease.ask import Grant
from gateway.policy.lease.debts import Debts
from gateway.policy.lease.line import Line
from gateway.policy.lease.times import EXHAUSTED_MEMORY, RENEW_AT, RETURN_DELAY
from gateway.policy.token_bucket import Decision


class Asks(Generic[W]):
    """Makes the asks of the accounts in `line` and applies the answers. `LeaseTable` documents the methods."""

    __slots__ = ("_debts", "_line", "_turn")

    def __init__(self, line: Line[W], debts: Debts[W]) -> None:
        self._line = line
        self._debts = debts
        self._turn = 0

    def make(self, now: float, limit: int) -> list[Account[W]]:
        """See `LeaseTable.next_asks`."""
        asks: list[Account[W]] = []
        while len(asks) < limit:
            account = self._line.next()
            if account is None:
                break
            if self._make(account, now):
                asks.append(account)
            else:
                self._line.rest(account)
        return asks

    def _make(self, account: Account[W], now: float) -> bool:
        """Fill in what to ask for the account. False: there is nothing to ask, and nothing was changed."""
        waiting = account.waiting
        want = len(waiting) if waiting else 0
        valid = now < account.lease_end
        live = account.tokens > 0 and valid
        lease = max(0, account.useful_lease(now) - account.tokens) if want or valid else 0
        owing = account.debt or account.debt_sent
        to_return = account.lease_id and not live
        if not (want or lease or owing or to_return):
            return False
        account.want = want
        account.lease = lease
        account.unspent = account.tokens
        if not (lease and live):
            # Without a new lease that covers them, the old tokens must not be spent any more.
            account.tokens = 0
        account.reported = account.tokens
        account.state = ASKING
        self._turn += 1
        account.turn = self._turn
        self._debts.send(account, self._turn)
        return True

    def settle(
        self, asks: Iterable[tuple[Account[W], int]], grants: Sequence[Grant], sent_at: float, now: float
    ) -> list[tuple[W, Decision]]:
        """See `LeaseTable.settle`."""
        decided: list[tuple[W, Decision]] = []
        for (account, turn), grant in zip(asks, grants, strict=True):
            if account.state is ASKING and account.turn == turn:
                self._take_lease(account, grant, sent_at)
                if account.debt_sent:
                    self._debts.confirmed(account)
                account.credit = 0
                _take_level(account, grant, now)
                account.ask_at = 0.0
                _admit(account, grant, now, decided)
                self._go_on(account, grant, now, decided)
        return decided

    def settle_late(
        self, asks: Iterable[tuple[Account[W], int]], grants: Sequence[Grant], sent_at: float, now: float
    ) -> None:
        """See `LeaseTable.settle_late`."""
        for (account, turn), grant in zip(asks, grants, strict=True):
            if account.debt_sent and turn >= account.debt_id:
                self._debts.confirmed(account)
            self._debts.covered(account, grant.granted)
            if account.state is not IDLE or account.turn != turn:
                continue
            _take_level(account, grant, now)
            if grant.leased:
                account.tokens = max(0, grant.leased - account.reported)
                account.lease_id = grant.lease_id
                account.lease_end = sent_at + grant.lease_time
                account.low = -1
                account.renew_at = inf
                self._line.wake_at(max(now, account.lease_end), account)

    def _take_lease(self, account: Account[W], grant: Grant, sent_at: float) -> None:
        spent_meanwhile = account.reported - account.tokens
        account.tokens = max(0, grant.leased - spent_meanwhile)
        account.lease_id = grant.lease_id
        if grant.leased:
            account.lease_end = sent_at + grant.lease_time
            account.low = grant.leased // 2
            account.renew_at = sent_at + RENEW_AT * grant.lease_time
            self._line.wake_at(account.lease_end, account)

    def _go_on(self, account: Account[W], grant: Grant, now: float, decided: list[tuple[W, Decision]]) -> None:
        """Decide what happens to the account after its waiting requests have got what there was."""
        waiting = account.waiting
        if account.pool >= 1.0 or account.tokens:
            if waiting:
                self._line.queue(account)
            else:
                self._line.rest(account)
            return
        held = grant.held_elsewhere
        wait = min(grant.retry_after, grant.held_time + RETURN_DELAY) if held else grant.retry_after
        if waiting and len(waiting) > held:
            refused = [waiting.pop() for _ in range(len(waiting) - held)]
            refused.reverse()
            decided.extend([(waiter, Decision(False, account.pool, wait, grant.reset_after)) for waiter in refused])
        if waiting:
            account.state = PARKED
            account.holdable = held
            account.ask_at = account.token_at = now + wait
            self._line.wake_at(account.ask_at, account)
            return
        if not held:
            account.token_at = now + wait
            account.ask_at = now + min(wait, EXHAUSTED_MEMORY)
        self._line.rest(account)


def _take_level(account: Account[W], grant: Grant, now: float) -> None:
    """Note what the bucket holds besides leases."""
    account.pool = max(0.0, grant.remaining)
    account.owes = max(0.0, -grant.remaining)
    account.pool_at = now


def _admit(account: Account[W], grant: Grant, now: float, decided: list[tuple[W, Decision]]) -> None:
    """Admit as many waiting requests as the store has granted, and then as many as the new lease has tokens for."""
    waiting = account.waiting
    granted = grant.granted
    # What is leased here is left to the client, too.
    left = account.pool + account.tokens if now < account.lease_end else account.pool
    while waiting and granted:
        granted -= 1
        decided.append((waiting.popleft(), Decision(True, left, 0.0, grant.reset_after)))
    while waiting and account.tokens and now < account.lease_end:
        account.tokens -= 1
        decided.append((waiting.popleft(), Decision(True, account.pool + account.tokens, 0.0, grant.reset_after)))

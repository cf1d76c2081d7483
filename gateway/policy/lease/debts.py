"""What this replica has spent without the store: it is told with the next ask, and kept until an answer confirms it."""

from typing import Generic

from gateway.policy.lease.account import IDLE, Account, W
from gateway.policy.lease.line import Line


class Debts(Generic[W]):
    """The accounts that owe the store something that it may not know of."""

    __slots__ = ("_debtors", "_line")

    def __init__(self, line: Line[W]) -> None:
        self._line = line
        self._debtors: dict[Account[W], None] = {}

    def owe(self, account: Account[W], spent: int) -> None:
        """`spent` tokens were taken without the store. What it had granted to nobody (`credit`) is taken off that."""
        spent -= min(spent, account.credit)
        account.credit = 0
        if spent:
            account.debt += spent
            self._debtors[account] = None
            if account.state is IDLE:
                self._line.queue(account)

    def refund(self, account: Account[W]) -> None:
        """One token that the store has given is not needed: a debt of less than nothing."""
        account.debt -= 1
        self._debtors[account] = None
        if account.state is IDLE:
            self._line.queue(account)

    def remind(self) -> None:
        """Put every debtor in line."""
        for account in self._debtors:
            if account.state is IDLE:
                self._line.queue(account)

    def send(self, account: Account[W], debt_id: int) -> None:
        """The debt, if there is one, goes with the ask that is being made. An unconfirmed one goes again as it was."""
        if account.debt and not account.debt_sent:
            account.debt_sent = account.debt
            account.debt = 0
            account.debt_id = debt_id

    def confirmed(self, account: Account[W]) -> None:
        """The store has answered the ask that told the debt."""
        account.debt_sent = 0
        self._forget(account)

    def covered(self, account: Account[W], granted: int) -> None:
        """The store has granted `granted` tokens to requests that were decided without it meanwhile. As far as these
        cover the debt, it need not be told; the rest is credit."""
        covered = max(0, min(account.debt, granted))
        account.debt -= covered
        account.credit += granted - covered
        self._forget(account)

    def _forget(self, account: Account[W]) -> None:
        if not (account.debt or account.debt_sent):
            self._debtors.pop(account, None)

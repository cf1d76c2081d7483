"""What the views of the journal for the control plane have in common."""

from collections.abc import Awaitable
from typing import TypeVar

from gateway.control.ports.journal import JournalAway
from gateway.journal.port import JournalUnavailable

_T = TypeVar("_T")


async def available(asked: Awaitable[_T]) -> _T:
    """What was asked of the journal. Raises JournalAway while it cannot be asked."""
    try:
        return await asked
    except JournalUnavailable as why:
        raise JournalAway(str(why)) from why

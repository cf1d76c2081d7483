"""What a call of `take.lua` looks like on the wire: a whole command, and the grants out of its answer.

Cold clients make such a call with some thirty asks, so each ask goes through here once. redis-py would encode each key
by itself, and make a call of Python for each.
"""

import struct
from collections.abc import Callable, Sequence
from typing import Final

from gateway.policy.lease import LEASE_TIME
from gateway.store.port import Ask, Grant

FIELDS: Final = 8
"""The integers of a grant in the answer."""

_DOUBLES: Final = 9
_new: Final[Callable[[type[Grant], tuple[int | float, ...]], Grant]] = tuple.__new__  # half of what Grant's own costs


def command(words: Sequence[bytes]) -> bytes:
    """A command in the protocol of Redis (RESP): an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n" % len(word))
        parts.append(word)
        parts.append(b"\r\n")
    return b"".join(parts)


def packed(asks: Sequence[Ask]) -> bytes:
    """The numbers of the asks, as doubles: one argument instead of nine for each ask."""
    numbers: list[float] = []
    for policy, _, want, lease, unspent, lease_id, debt, debt_id in asks:
        numbers += (policy.capacity, policy.refill_rate, policy.max_ttl, want, lease, unspent, lease_id, debt, debt_id)
    return struct.pack(f">{_DOUBLES * len(asks)}d", *numbers)


def grants(answer: Sequence[int]) -> list[Grant]:
    """`FIELDS` integers for each grant, times in microseconds and tokens in millionths."""
    found: list[Grant] = []
    for at in range(0, len(answer), FIELDS):
        granted, leased, lease_id, remaining, retry_after, reset_after, held, held_time = answer[at : at + FIELDS]
        found.append(
            _new(
                Grant,
                (
                    granted,
                    leased,
                    lease_id,
                    LEASE_TIME,
                    remaining / 1e6,
                    retry_after / 1e6,
                    reset_after / 1e6,
                    held,
                    held_time / 1e6,
                ),
            )
        )
    return found

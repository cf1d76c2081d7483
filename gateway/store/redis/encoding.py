"""What a call of `take.lua` looks like on the wire: a whole command, and the grants out of its answer.

Cold clients make such a call with some thirty asks, so each ask goes through here once. redis-py would encode each key
by itself, and make a call of Python for each.
"""

import struct
from collections.abc import Sequence
from typing import Final

from gateway.policy.lease import LEASE_TIME
from gateway.policy.lease.ask import Ask, Grant

FIELDS: Final = 8
"""The integers of a grant in the answer."""


def command(words: Sequence[bytes]) -> bytes:
    """A command in the protocol of Redis (RESP): an array of bulk strings."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts.append(b"$%d\r\n" % len(word))
        parts.append(word)
        parts.append(b"\r\n")
    return b"".join(parts)


def keys(prefix: bytes, asks: Sequence[Ask]) -> list[bytes]:
    """The keys of the buckets: `prefix`, the name of the policy but for "default", and the client."""
    found: list[bytes] = []
    for ask in asks:
        name, client = ask.policy.name, ask.client.encode()
        found.append(prefix + client if name == "default" else b"%b%b:%b" % (prefix, name.encode(), client))
    return found


def packed(asks: Sequence[Ask]) -> bytes:
    """The numbers of the asks, as doubles: one argument instead of nine for each ask. Most asks of one call are alike
    but for their clients, and are packed once."""
    parts: list[bytes] = []
    usual: Ask | None = None
    usual_numbers = b""
    for ask in asks:
        if ask.lease or ask.unspent or ask.lease_id or ask.debt or ask.debt_id:
            parts.append(_numbers(ask))
            continue
        if usual is None or ask.want != usual.want or ask.policy is not usual.policy:
            usual, usual_numbers = ask, _numbers(ask)
        parts.append(usual_numbers)
    return b"".join(parts)


def _numbers(ask: Ask) -> bytes:
    policy = ask.policy
    return struct.pack(
        ">9d",
        policy.capacity,
        policy.refill_rate,
        policy.max_ttl,
        ask.want,
        ask.lease,
        ask.unspent,
        ask.lease_id,
        ask.debt,
        ask.debt_id,
    )


def grants(answer: list[int]) -> list[Grant]:
    """`FIELDS` integers for each grant, times in microseconds and tokens in millionths."""
    found: list[Grant] = []
    for at in range(0, len(answer), FIELDS):
        granted, leased, lease_id, remaining, retry_after, reset_after, held, held_time = answer[at : at + FIELDS]
        found.append(
            Grant(
                granted,
                leased,
                lease_id,
                LEASE_TIME,
                remaining / 1e6,
                retry_after / 1e6,
                reset_after / 1e6,
                held,
                held_time / 1e6,
            )
        )
    return found

"""Faults on demand: what an operator asked for, and which attempts are struck by it.

Of each `BLOCK` attempts in a row that a fault is for, exactly its share is struck, in random order. So a drill of a few
hundred requests meets what was asked for, and the share is never exceeded:

    struck ≤ share · attempts, with the attempts rounded up to whole blocks

`Cap` keeps the same bound for all faults of an upstream together, in each block.
"""

import random
from dataclasses import dataclass
from typing import Final, Literal

FaultKind = Literal["delay", "abort", "reset", "truncate", "slow_body", "connect_timeout"]
KINDS: Final[tuple[FaultKind, ...]] = ("delay", "abort", "reset", "truncate", "slow_body", "connect_timeout")

BLOCK: Final = 20
_DUST: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `percent` (above 0, at most 100) of the attempts at `upstream` are struck. Empty `route`, `endpoint`
    and `header`: of all of them. With `header` it is for `clients` percent of the clients, told apart by the value of
    that field; requests without it are not struck.

    `delay` in seconds is for the kind `delay`, `status` for `abort`, `rate` in bytes a second for `slow_body`. `reason`
    is why, and `by` is who asked for it.
    """

    id: str
    upstream: str
    kind: FaultKind
    percent: float
    reason: str
    by: str = ""
    route: str = ""
    endpoint: str = ""
    header: str = ""
    clients: float = 100.0
    delay: float = 1.0
    status: int = 503
    rate: int = 1024

    @property
    def name(self) -> str:
        """The kind and the id: how log lines and fields call it."""
        return f"{self.kind} {self.id}"

    @property
    def does(self) -> str:
        """What it does to an attempt, in words."""
        return {
            "delay": f"the answer comes {self.delay:g} s later",
            "abort": f"the answer is a {self.status}",
            "reset": "the connection is reset before the answer",
            "truncate": "the body of the answer breaks off",
            "slow_body": f"the body of the answer comes at {self.rate} bytes a second",
            "connect_timeout": "no connection comes about in time",
        }[self.kind]


class Strikes:
    """Which attempts are struck, of those that a fault is for."""

    __slots__ = ("_carry", "_left", "_rng", "_share", "_to_strike")

    def __init__(self, percent: float, rng: random.Random) -> None:
        self._share = percent / 100.0
        self._rng = rng
        self._left = 0
        self._to_strike = 0
        self._carry = 0.0

    def strikes(self) -> bool:
        """Whether the next one is struck."""
        if not self._left:
            self._left = BLOCK
            self._carry += self._share * BLOCK
            self._to_strike = int(self._carry + _DUST)
            self._carry -= self._to_strike
        struck = self._rng.random() * self._left < self._to_strike
        self._left -= 1
        if struck:
            self._to_strike -= 1
        return struck


class Cap:
    """Bounds the share of an upstream's attempts that all of its faults strike together, in each block anew: what a
    block leaves of it is not for a later one. Only the fraction of an attempt is kept."""

    __slots__ = ("_allowed", "_left", "_share")

    def __init__(self, percent: float) -> None:
        self._share = percent / 100.0
        self._left = 0
        self._allowed = 0.0

    def seen(self) -> None:
        """One attempt at the upstream, struck or not."""
        if not self._left:
            self._left = BLOCK
            over = max(0.0, self._allowed)
            self._allowed = over - int(over) + self._share * BLOCK
        self._left -= 1

    def take(self) -> bool:
        """Whether the attempt that was seen last may be struck; if so, it is counted as struck."""
        if self._allowed + _DUST < 1.0:
            return False
        self._allowed -= 1.0
        return True

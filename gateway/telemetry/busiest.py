"""The busiest clients of each rate limit, in a bounded amount of memory: a space-saving sketch over a minute.

The sketch (Metwally, Agrawal, El Abbadi: Efficient Computation of Frequent and Top-k Elements in Data Streams, 2005)
has at most `most` clients. A client that is not among them takes the place of the one with the least count, and begins
with that count. So whoever has had more than 1 / most of all requests is in it, and a count is never too small.

    looked at   the first `EXACTLY` decisions of a half-minute, then one of `GAP`, at random distances
    weight      1, then GAP: so that counts are those of all decisions, on average

A decision that is not looked at costs one subtraction. Two sketches, of the present half-minute and of the one before,
are read together, so what is told is of the last 30 to 60 seconds.
"""

import random
from collections.abc import Iterator
from typing import Final

HALF: Final = 30.0
EXACTLY: Final = 200
GAP: Final = 16


class Seen:
    """What is known of one client: its decisions, and how many of them were refusals."""

    __slots__ = ("decisions", "refused")

    def __init__(self, decisions: int, refused: int) -> None:
        self.decisions = decisions
        self.refused = refused


class Sketch:
    """At most `most` clients with their counts."""

    __slots__ = ("_floor", "_least", "_most", "seen")

    def __init__(self, most: int) -> None:
        self._most = most
        self.seen: dict[str, Seen] = {}
        # The least count when it was last looked for, and who had it then. Counts only grow, and whoever comes begins
        # above it, so none can be below.
        self._floor = 0
        self._least: list[str] = []

    def add(self, client: str, weight: int, refused: int) -> None:
        """`weight` decisions, of which `refused` were refusals."""
        seen = self.seen
        found = seen.get(client)
        if found is None:
            found = Seen(0, 0)
            if len(seen) >= self._most:
                found.decisions = self._evict()
            seen[client] = found
        found.decisions += weight
        found.refused += refused

    def _evict(self) -> int:
        """Drop one of those with the least count. Returns that count. Each search serves as many calls as there were
        with it."""
        seen = self.seen
        while True:
            least = self._least
            while least:
                name = least.pop()
                each = seen.get(name)
                if each is not None and each.decisions == self._floor:
                    del seen[name]
                    return self._floor
            floor = min([each.decisions for each in seen.values()])
            self._floor = floor
            self._least = [name for name, each in seen.items() if each.decisions == floor]


class Busy:
    """The busiest clients of one rate limit. Whoever decides subtracts 1 from `left`, and calls `note` when it has come
    to 0. `now` is of a monotonic clock."""

    __slots__ = ("_before", "_began", "_most", "_noted", "_present", "_rng", "_weight", "left")

    def __init__(self, most: int, rng: random.Random) -> None:
        self.left = 1
        self._most = most
        self._rng = rng
        self._present = Sketch(most)
        self._before: Sketch | None = None
        self._began = 0.0
        self._noted = 0
        self._weight = 1

    def note(self, client: str, allowed: bool, now: float) -> None:
        """A decision about the client is looked at."""
        self._turn(now)
        weight = self._weight
        self._present.add(client, weight, 0 if allowed else weight)
        self._noted += 1
        if self._noted < EXACTLY:
            self.left = self._weight = 1
        else:
            # Any distance from 1 to 2 GAP - 1 is as likely as another: GAP on average, and no rhythm.
            self._weight = GAP
            self.left = 1 + int(self._rng.random() * (2 * GAP - 1))

    def read(self, now: float) -> tuple[float, dict[str, tuple[int, int]]]:
        """Over how many seconds, and by client how many decisions there were and how many of them were refusals."""
        self._turn(now)
        found = {name: (each.decisions, each.refused) for name, each in self._present.seen.items()}
        before = self._before
        if before is None:
            return max(1.0, now - self._began), found
        for name, each in before.seen.items():
            decisions, refused = found.get(name, (0, 0))
            found[name] = decisions + each.decisions, refused + each.refused
        return now - self._began + HALF, found

    def _turn(self, now: float) -> None:
        """Begin another half-minute where it is time. What is older than two of them is forgotten."""
        age = now - self._began
        if age < HALF:
            return
        self._before = self._present if age < 2 * HALF and self._began else None
        # Where somebody decides, halves follow each other; after a pause, the next one begins with the first decision.
        self._began = self._began + HALF if self._before is not None else now
        self._present = Sketch(self._most)
        self._noted = 0
        self._weight = 1


class Busiest:
    """Those of every rate limit. With `most` 0 nothing is kept."""

    __slots__ = ("_by_policy", "_rng", "most")

    def __init__(self, most: int, rng: random.Random) -> None:
        self.most = most
        self._rng = rng
        self._by_policy: dict[str, Busy] = {}

    def of(self, policy: str) -> Busy | None:
        """Where the decisions of a rate limit are noted; None where none are."""
        if not self.most:
            return None
        found = self._by_policy.get(policy)
        if found is None:
            found = self._by_policy[policy] = Busy(self.most, self._rng)
        return found

    def read(self, count: int, now: float) -> Iterator[tuple[str, list[tuple[str, float, float]]]]:
        """Of every rate limit its `count` busiest clients, with decisions and refusals a second, the busiest first."""
        for policy, busy in self._by_policy.items():
            seconds, found = busy.read(now)
            top = sorted([(counts[0], counts[1], name) for name, counts in found.items()], reverse=True)[:count]
            yield policy, [(name, decisions / seconds, refused / seconds) for decisions, refused, name in top]

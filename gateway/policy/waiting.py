"""The queue of a concurrency limit: who is next, and who may wait at all.

    of several classes     the best one first (`gateway.policy.priority`)
    of one class           its clients in turn, whatever each of them has waiting
    of one client          the oldest first; once somebody waits for more than 20 ms, the newest first

While the queue is short the order is that of arrival, which is fair. A queue that stands is another matter: first in,
first out makes all of it late, and the newest are those whose clients still wait for the answer (the adaptive LIFO of
Facebook, "Fail at Scale", ACM Queue 2015; the 20 ms are those of DAGOR, arXiv:1806.04075).

A class may fill the part of the queue that it may hold of the limit. One client may have `client_share` of it.
"""

import math
from collections import OrderedDict
from typing import Any, Final

from gateway.policy.priority import PRIORITIES, caps

STANDING: Final = 0.02
"""Seconds: a queue in which somebody waits for longer stands."""


class Waiter:
    """One place in the queue. `payload` belongs to the caller. At the instant `deadline` waiting becomes pointless."""

    __slots__ = ("client", "deadline", "payload", "priority", "since")

    def __init__(self, payload: Any, since: float, deadline: float, priority: int, client: str) -> None:
        self.payload = payload
        self.since = since
        self.deadline = deadline
        self.priority = priority
        self.client = client


class Waiting:
    """Those who wait. `all` has them in the order of arrival, and so of deadline, to be looked at only."""

    __slots__ = ("_caps", "_clients", "_lines", "_most_of_client", "_timeout", "all")

    def __init__(self, max_queue: int, timeout: float, client_share: float, percents: tuple[int, ...]) -> None:
        self._timeout = timeout
        self._caps = caps(max_queue if timeout > 0.0 else 0, percents)
        self._most_of_client = max(1, math.ceil(max_queue * client_share))
        # Neither is a deque, because somebody who leaves must not be searched for.
        self.all: OrderedDict[Waiter, None] = OrderedDict()
        self._lines: list[OrderedDict[str, OrderedDict[Waiter, None]]] = [OrderedDict() for _ in PRIORITIES]
        self._clients: dict[str, int] = {}

    def has_room(self, priority: int, client: str) -> bool:
        """Whether one more of this class and client may wait."""
        return len(self.all) < self._caps[priority] and self._clients.get(client, 0) < self._most_of_client

    def add(self, payload: Any, now: float, priority: int, client: str) -> Waiter:
        """Let somebody wait. There is room for them."""
        waiter = Waiter(payload, now, now + self._timeout, priority, client)
        self.all[waiter] = None
        line = self._lines[priority]
        of_client = line.get(client)
        if of_client is None:
            of_client = line[client] = OrderedDict()
        of_client[waiter] = None
        self._clients[client] = self._clients.get(client, 0) + 1
        return waiter

    def take(self, below: int, of_class: list[int], now: float) -> Waiter | None:
        """Take out who is next of those classes that may hold more than `below` places (`of_class`)."""
        for priority, line in enumerate(self._lines):
            if line and of_class[priority] > below:
                stands = now - next(iter(self.all)).since > STANDING
                of_client = next(iter(line.values()))
                waiter = next(reversed(of_client)) if stands else next(iter(of_client))
                self.remove(waiter)
                if waiter.client in line:
                    line.move_to_end(waiter.client)
                return waiter
        return None

    def remove(self, waiter: Waiter) -> None:
        """Take out somebody who waits."""
        del self.all[waiter]
        line, client = self._lines[waiter.priority], waiter.client
        of_client = line[client]
        del of_client[waiter]
        if not of_client:
            del line[client]
        left = self._clients[client] - 1
        if left:
            self._clients[client] = left
        else:
            del self._clients[client]

    def overdue(self, now: float) -> list[Waiter]:
        """Take out those whose deadline has come, oldest first."""
        found = []
        while self.all:
            oldest = next(iter(self.all))
            if oldest.deadline > now:
                break
            self.remove(oldest)
            found.append(oldest)
        return found

"""Customers who order one thing after the other, and repeat what got no answer, with the same key."""

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

# A real customer gives up. For the drills it is longer than any outage that they make.
PATIENCE_SECONDS: Final = 30.0
BROKEN: Final = 0
"""In place of a status: the connection broke, or no answer came."""


@dataclass
class Attempt:
    """One order that a customer has wanted to place. Times are seconds since the epoch; `served_in` is how long the
    request took that was answered with the order, without those before it."""

    key: str
    body: dict[str, Any]
    began: float
    ended: float = 0.0
    served_in: float = 0.0
    statuses: list[int] = field(default_factory=list)
    order: dict[str, Any] | None = None

    @property
    def placed(self) -> bool:
        """Whether there is an order, however it ended."""
        return self.order is not None

    @property
    def status(self) -> str:
        """That of the order."""
        return "none" if self.order is None else str(self.order["status"])

    @property
    def failed_requests(self) -> int:
        """Broken connections and 5xx; being asked to wait (409, 429) is no failure."""
        return sum(status == BROKEN or status >= 500 for status in self.statuses)


class Customers:
    """They order through one gateway. `attempts` has all that they have begun, in order."""

    def __init__(self, url: str, pause: float, patience: float) -> None:
        """`pause` is how many seconds a customer thinks between two orders, `patience` for how many one tries to place
        an order."""
        self.attempts: list[Attempt] = []
        self._url = url
        self._pause = pause
        self._patience = patience
        self._session: aiohttp.ClientSession | None = None
        self._numbers = itertools.count(1)
        self._run = f"{random.getrandbits(32):08x}"

    @contextlib.asynccontextmanager
    async def ordering(self, number: int) -> AsyncIterator[None]:
        """So many of them, until the context ends; then each finishes the order that it has begun."""
        stop = asyncio.Event()
        timeout = aiohttp.ClientTimeout(total=15.0)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as self._session:
            tasks = [asyncio.ensure_future(self._shop(f"customer-{each}", stop)) for each in range(number)]
            try:
                yield
            finally:
                stop.set()
                await asyncio.gather(*tasks)

    async def repeat(self, attempt: Attempt) -> dict[str, Any] | None:
        """The order that comes back for an attempt that was placed before, asked for a second time."""
        again = Attempt(attempt.key, attempt.body, time.time())
        async with aiohttp.ClientSession() as session:
            await self._place(again, session)
        return again.order

    def completed_after(self, moment: float) -> float | None:
        """Seconds from the moment to the first order that was completed after it; None while there is none."""
        ends = [each.ended for each in self.attempts if each.status == "completed" and each.ended > moment]
        return min(ends) - moment if ends else None

    async def _shop(self, name: str, stop: asyncio.Event) -> None:
        assert self._session is not None  # noqa: S101 - only `ordering` calls it
        while not stop.is_set():
            body = {"customer": name, "items": [{"sku": "coffee", "quantity": 1}], "card": "tok_ok"}
            attempt = Attempt(f"{self._run}-{next(self._numbers)}", body, time.time())
            self.attempts.append(attempt)
            await self._place(attempt, self._session)
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.5))

    async def _place(self, attempt: Attempt, session: aiohttp.ClientSession) -> None:
        while time.time() - attempt.began < self._patience:
            wait = await self._request(attempt, session)
            if wait is None:
                break
            # As asked, and longer each time: those who knock on a closed door all the time keep it closed.
            await asyncio.sleep(max(wait, min(0.3 * 2 ** len(attempt.statuses), 3.0)) * random.uniform(0.8, 1.2))
        attempt.ended = time.time()

    async def _request(self, attempt: Attempt, session: aiohttp.ClientSession) -> float | None:
        """Seconds that the customer is asked to wait before the next request; None when there will be none."""
        sent = time.monotonic()
        try:
            async with session.post(
                f"{self._url}/orders", json=attempt.body, headers={"Idempotency-Key": attempt.key}
            ) as answer:
                body = await answer.json(content_type=None)
                attempt.statuses.append(answer.status)
                if answer.status == 201:
                    attempt.order = body
                    attempt.served_in = time.monotonic() - sent
                    return None
                if answer.status < 500 and answer.status not in {409, 429}:
                    return None
                return float(answer.headers.get("Retry-After", "0"))
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError):
            attempt.statuses.append(BROKEN)
            return 0.0

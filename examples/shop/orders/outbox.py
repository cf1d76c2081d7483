"""The relay of the outbox: sends the events that `store.py` has written with the orders to the notifications service.

An event is marked as published after the answer. A crash between the two sends it again, with the same idempotency key,
and the notifications service has it once. So it arrives at least once, and tells the customer once.

Events do not wait for each other: one that fails is tried again later, and others overtake it.
"""

import asyncio
import json
import logging
import time
from datetime import UTC, datetime
from typing import Final

from shop.common.database import Database, Row, Unavailable
from shop.common.pauses import Wake, growing
from shop.orders.gateway_client import Done, GatewayClient, Outcome, Refusal

log = logging.getLogger("shop.outbox")

TARGET: Final = "/internal/notifications/events"
BATCH: Final = 20
PAUSE_SECONDS: Final = 0.25
# Longer than a call: while the lease holds, no other relay sends the event.
LEASE_SECONDS: Final = 5.0
LONGEST_PAUSE_SECONDS: Final = 2.0
# An event that the target does not want needs somebody who looks at it.
REFUSED_PAUSE_SECONDS: Final = 60.0
KEEP_PUBLISHED_SECONDS: Final = 86_400.0


class Outbox:
    """The background task, and what is to be known about the queue."""

    def __init__(self, database: Database, gateway: GatewayClient) -> None:
        self._database = database
        self._gateway = gateway
        self.wake = Wake()

    async def pending(self) -> float:
        """How many events are not published."""
        [row] = await self._database.fetch("SELECT COUNT(*) AS number FROM outbox_events WHERE NOT published")
        return float(row["number"])

    async def oldest_seconds(self) -> float:
        """The age of the oldest one that is not published, 0 if all are."""
        [row] = await self._database.fetch("SELECT MIN(created_at) AS oldest FROM outbox_events WHERE NOT published")
        if row["oldest"] is None:
            return 0.0
        # SQLite has text, in UTC without saying so.
        text = isinstance(row["oldest"], str)
        oldest: datetime = datetime.fromisoformat(row["oldest"]).replace(tzinfo=UTC) if text else row["oldest"]
        return max(0.0, (datetime.now(UTC) - oldest).total_seconds())

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                sent = await self._round()
            except Unavailable as error:
                log.warning("outbox: the database is away: %s", error)
                sent = 0
            if sent < BATCH:
                await self.wake.wait(PAUSE_SECONDS)

    async def _round(self) -> int:
        """Send one batch; how many were published."""
        events = await self._claim()
        if not events:
            return 0
        outcomes = await asyncio.gather(*(self._send(event) for event in events))
        published = [event for event, outcome in zip(events, outcomes, strict=True) if isinstance(outcome, Done)]
        await self._note(events, outcomes)
        if published:
            log.info("outbox: %d events published", len(published))
        return len(published)

    async def _send(self, event: Row) -> Outcome:
        return await self._gateway.post(TARGET, json.loads(event["body"]), event["id"])

    async def _claim(self) -> list[Row]:
        now = time.time()
        async with self._database.transaction() as transaction:
            events = await transaction.fetch(
                "UPDATE outbox_events SET attempts = attempts + 1, next_attempt_at = $2 WHERE id IN ("
                " SELECT id FROM outbox_events WHERE NOT published AND next_attempt_at < $1 ORDER BY id LIMIT $3"
                ") AND NOT published AND next_attempt_at < $1 RETURNING id, body, attempts",
                now,
                now + LEASE_SECONDS,
                BATCH,
            )
            await transaction.execute(
                "DELETE FROM outbox_events WHERE published AND published_at < $1", now - KEEP_PUBLISHED_SECONDS
            )
        return events

    async def _note(self, events: list[Row], outcomes: list[Outcome]) -> None:
        now = time.time()
        async with self._database.transaction() as transaction:
            for event, outcome in zip(events, outcomes, strict=True):
                if isinstance(outcome, Done):
                    await transaction.execute(
                        "UPDATE outbox_events SET published = TRUE, published_at = $2, last_error = NULL WHERE id = $1",
                        event["id"],
                        now,
                    )
                    continue
                log.warning("outbox: event %s failed, attempt %d: %s", event["id"], event["attempts"], outcome.reason)
                await transaction.execute(
                    "UPDATE outbox_events SET next_attempt_at = $2, last_error = $3 WHERE id = $1",
                    event["id"],
                    now + _pause_after(outcome, event["attempts"]),
                    outcome.reason,
                )


def _pause_after(outcome: Outcome, attempts: int) -> float:
    if isinstance(outcome, Refusal):
        return REFUSED_PAUSE_SECONDS
    return growing(attempts, LONGEST_PAUSE_SECONDS)

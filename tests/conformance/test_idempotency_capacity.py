"""Room for the records of idempotency keys is made in the same way in both backends."""

import asyncio
import hashlib

from gateway.config.sections.idempotency.model import IdempotencyLimits
from gateway.idempotency.capacity import Capacity
from gateway.journal import idempotency as records
from gateway.journal.idempotency import Kept
from tests.conformance.journals import Journals

KEPT = Kept(b"content", 201, b"", b"body")
LEASE = 35.0
SHORT, LONG = 60.0, 86_400.0


def key_of(number: int) -> bytes:
    return hashlib.sha256(b"%d" % number).digest()


async def add(journals: Journals, number: int, ttl: float, *, finished: bool = True) -> None:
    journal = await journals.replica()
    await journal.run(records.claim(key_of(number), "orders", "a", LEASE, ttl, retry=False))
    held = (key_of(number), "a", 1)
    await journal.run(records.finish(held, KEPT) if finished else records.unknown(held))


async def left(journals: Journals) -> set[bytes]:
    return {row["id"] for row in await journals.rows("SELECT id FROM idempotency_records")}


async def test_what_is_over_goes_before_any_answer_that_is_still_promised(journals: Journals) -> None:
    capacity = Capacity(await journals.replica(), IdempotencyLimits(max_records=4))
    await add(journals, 0, LONG)
    await journals.pass_time("idempotency_records", 2 * SHORT, "created_at", "expires_at")
    for number in (1, 2):
        await add(journals, number, SHORT)
    await add(journals, 3, SHORT, finished=False)
    await journals.pass_time("idempotency_records", 2 * SHORT, "created_at", "expires_at")
    await add(journals, 4, LONG)
    await capacity.look()
    assert await left(journals) == {key_of(0), key_of(4)}
    assert (capacity.records, capacity.bytes, capacity.evicted, capacity.full) == (2, 2 * len(b"body"), 0, False)


async def test_where_nothing_is_over_the_oldest_answers_go(journals: Journals) -> None:
    capacity = Capacity(await journals.replica(), IdempotencyLimits(max_records=4))
    for number in range(6):
        await add(journals, number, LONG)
        await journals.pass_time("idempotency_records", 1, "created_at")
    await capacity.look()
    assert await left(journals) == {key_of(number) for number in (2, 3, 4, 5)}
    assert capacity.evicted == 2


async def test_several_that_find_too_many_at_once_make_room_once(journals: Journals) -> None:
    limits = IdempotencyLimits(max_records=20)
    for number in range(30):
        await add(journals, number, LONG)
        await journals.pass_time("idempotency_records", 1, "created_at")
    capacities = [Capacity(await journals.replica(name), limits) for name in "abc"]
    await asyncio.gather(*(each.look() for each in capacities))
    assert await left(journals) == {key_of(number) for number in range(11, 30)}
    assert sum(each.evicted for each in capacities) == 11

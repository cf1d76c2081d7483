"""The records of idempotency keys do the same in both backends."""

import asyncio
import hashlib

import pytest

from gateway.journal import idempotency as records
from gateway.journal.idempotency import Found, Kept
from gateway.journal.port import Step
from tests.conformance.journals import Journals

KEY = hashlib.sha256(b"key").digest()
CONTENT = hashlib.sha256(b"content").digest()
KEPT = Kept(CONTENT, 201, b"Content-Type: a\r\n", b"\x00body")
LEASE, TTL = 35.0, 86_400.0
TABLE = "idempotency_records"


async def claim(
    journals: Journals, owner: str, *, retry: bool = False, key: bytes = KEY, ttl: float = TTL, lease: float = LEASE
) -> int | None:
    journal = await journals.replica()
    return records.fence_of(await journal.run(records.claim(key, "orders", owner, lease, ttl, retry=retry)))


async def look(journals: Journals, key: bytes = KEY) -> Found | None:
    rows = await (await journals.replica("b")).run(records.look(key))
    return records.found(rows[0]) if rows else None


async def state(journals: Journals) -> str | None:
    found = await look(journals)
    return None if found is None else found.state


async def done(journals: Journals, step: Step) -> bool:
    return bool(await (await journals.replica()).run(step))


async def test_a_key_is_claimed_once(journals: Journals) -> None:
    replicas = [await journals.replica(name) for name in "abcd"]
    asked = [
        replicas[index % 4].run(records.claim(KEY, "orders", f"owner-{index}", LEASE, TTL, retry=False))
        for index in range(40)
    ]
    fences = [records.fence_of(rows) for rows in await asyncio.gather(*asked)]
    assert [fence for fence in fences if fence is not None] == [1]
    found = await look(journals)
    assert found is not None
    assert (found.state, found.content) == ("running", None)
    assert LEASE - 30 < found.lease_left <= LEASE


async def test_an_answer_is_kept_byte_for_byte(journals: Journals) -> None:
    assert await claim(journals, "a") == 1
    assert await done(journals, records.finish((KEY, "a", 1), KEPT))
    found = await look(journals)
    assert found is not None
    assert found[:-1] == ("finished", CONTENT, 201, True, KEPT.head, KEPT.body)
    assert await claim(journals, "b") is None
    assert await claim(journals, "b", retry=True) is None


async def test_of_an_answer_that_is_too_large_the_status_is_kept(journals: Journals) -> None:
    await claim(journals, "a")
    assert await done(journals, records.finish((KEY, "a", 1), Kept(CONTENT, 200, None, None)))
    found = await look(journals)
    assert found is not None
    assert (found.state, found.status, found.whole, found.body) == ("finished", 200, False, b"")


async def test_what_was_released_may_be_claimed(journals: Journals) -> None:
    await claim(journals, "a")
    assert await done(journals, records.release((KEY, "a", 1)))
    assert await look(journals) is None
    assert await claim(journals, "b") == 1


async def test_a_claim_whose_answer_was_lost_is_released_by_its_owner_alone(journals: Journals) -> None:
    await claim(journals, "a")
    assert not await done(journals, records.release_own(KEY, "b"))
    assert await done(journals, records.release_own(KEY, "a"))
    assert await look(journals) is None


@pytest.mark.parametrize("retry", [False, True])
async def test_an_unknown_outcome_is_taken_only_by_whoever_may_try_again(journals: Journals, retry: bool) -> None:
    await claim(journals, "a")
    assert await done(journals, records.unknown((KEY, "a", 1)))
    assert await state(journals) == "unknown"
    assert await claim(journals, "b", retry=retry) == (2 if retry else None)
    assert await state(journals) == ("running" if retry else "unknown")


async def test_a_holder_whose_lease_has_ended_counts_as_unknown(journals: Journals) -> None:
    await claim(journals, "a")
    assert await claim(journals, "b", retry=True) is None
    await journals.pass_time(TABLE, LEASE + 1, "lease_until")
    assert await state(journals) == "unknown"
    assert await claim(journals, "b") is None
    assert await claim(journals, "b", retry=True) == 2


async def test_a_holder_that_comes_back_late_changes_nothing(journals: Journals) -> None:
    await claim(journals, "a")
    await journals.pass_time(TABLE, LEASE + 1, "lease_until")
    assert await claim(journals, "b", retry=True) == 2
    late = (KEY, "a", 1)
    for step in (
        records.finish(late, KEPT),
        records.unknown(late),
        records.release(late),
        records.renew(late, LEASE),
        records.release_own(KEY, "a"),
    ):
        assert not await done(journals, step)
    assert await state(journals) == "running"
    assert await done(journals, records.finish((KEY, "b", 2), KEPT))
    assert not await done(journals, records.release((KEY, "b", 2)))
    assert await state(journals) == "finished"


async def test_a_holder_that_nobody_has_followed_may_still_finish(journals: Journals) -> None:
    await claim(journals, "a")
    await journals.pass_time(TABLE, LEASE + 1, "lease_until")
    assert await done(journals, records.finish((KEY, "a", 1), KEPT))
    assert await state(journals) == "finished"


async def test_a_lease_that_is_renewed_lasts(journals: Journals) -> None:
    await claim(journals, "a")
    await journals.pass_time(TABLE, LEASE + 1, "lease_until")
    assert await done(journals, records.renew((KEY, "a", 1), LEASE))
    assert await state(journals) == "running"


async def test_what_is_over_counts_as_not_there(journals: Journals) -> None:
    await claim(journals, "a")
    await done(journals, records.finish((KEY, "a", 1), KEPT))
    await journals.pass_time(TABLE, TTL + 1, "expires_at", "created_at")
    assert await look(journals) is None
    assert await claim(journals, "b") == 2
    found = await look(journals)
    assert found is not None
    assert (found.state, found.content, found.body) == ("running", None, b"")


@pytest.mark.parametrize("known", [True, False], ids=["answered", "unknown"])
async def test_a_request_that_lasts_longer_than_keys_are_known_is_known_from_its_end(
    journals: Journals, known: bool
) -> None:
    await claim(journals, "a")
    await journals.pass_time(TABLE, TTL + 1, "expires_at", "created_at")
    held = (KEY, "a", 1)
    assert await done(journals, records.finish(held, KEPT) if known else records.unknown(held))
    assert await state(journals) == ("finished" if known else "unknown")
    assert await claim(journals, "b") is None
    await journals.pass_time(TABLE, TTL + 1, "expires_at", "created_at")
    assert await claim(journals, "b") == 2


async def test_what_runs_is_not_over_before_its_lease_has_ended(journals: Journals) -> None:
    await claim(journals, "a")
    await journals.pass_time(TABLE, TTL + 1, "expires_at")
    assert await state(journals) == "running"
    assert await claim(journals, "b", retry=True) is None
    journal = await journals.replica()
    assert await journal.transact(records.delete_over(10)) == 0
    await journals.pass_time(TABLE, LEASE + 1, "lease_until")
    assert await journal.transact(records.delete_over(10)) == 1


async def fill(journals: Journals, count: int) -> None:
    journal = await journals.replica()
    for number in range(count):
        key = hashlib.sha256(b"%d" % number).digest()
        await journal.run(records.claim(key, "orders" if number % 2 else "carts", "a", LEASE, TTL, retry=False))
        await journals.pass_time(TABLE, 1, "created_at")
        if number >= 2:
            await journal.run(records.finish((key, "a", 1), KEPT))


async def test_the_oldest_finished_records_go_first_and_those_that_run_never(journals: Journals) -> None:
    await fill(journals, 8)
    journal = await journals.replica()
    assert await journal.read(records.totals()) == (8, 6 * 22)
    last = await journal.read(records.last_of_excess(5, 2 * 22))
    assert last is not None
    assert last == await journal.read(records.last_of_excess(4, 1000))
    assert await journal.transact(records.delete_oldest(last, 3)) == (3, 3 * 22)
    assert await journal.transact(records.delete_oldest(last, 3)) == (1, 22)
    assert await journal.transact(records.delete_oldest(last, 3)) == (0, 0)
    left = {row["id"] for row in await journals.rows("SELECT id FROM idempotency_records")}
    assert left == {hashlib.sha256(b"%d" % number).digest() for number in (0, 1, 6, 7)}
    last = await journal.read(records.last_of_excess(0, 0))
    assert last is not None
    assert await journal.transact(records.delete_oldest(last, 10)) == (2, 2 * 22)
    assert await journal.read(records.last_of_excess(2, 0)) is None


async def test_records_are_counted_by_route_and_state(journals: Journals) -> None:
    await fill(journals, 5)
    await journals.rows("UPDATE idempotency_records SET lease_until = 0 WHERE route = 'carts' AND state = 'running'")
    journal = await journals.replica()
    counts = await journal.read(records.counts())
    assert [(each.route, each.state, each.records, each.bytes) for each in counts] == [
        ("carts", "finished", 2, 44),
        ("carts", "unknown", 1, 0),
        ("orders", "finished", 1, 22),
        ("orders", "running", 1, 0),
    ]
    assert all(each.oldest > 0 for each in counts)

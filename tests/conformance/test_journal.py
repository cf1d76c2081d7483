"""Both backends of the journal do the same for an operation: all of it or nothing, durable, and fenced."""

import asyncio
import time

import pytest

from gateway.journal.cleaning import BATCH, Cleaner
from gateway.journal.leases import Lease, Leased
from gateway.journal.port import JournalUnavailable, Notice, Operation, Statement
from gateway.journal.schema import PROBE, known, migrations
from tests.conformance.journals import Journals, one

_ADD = Statement(
    "INSERT INTO outbox_events"
    " (id, target, state, method, path, headers, body, size, correlation_id, due_at, created_at)"
    " VALUES ($1, $2, 'queued', 'POST', $3, $3, $3, 0, '', {now}, {now})"
)
QUEUE = Leased("outbox_events", "id", "due_at <= {now}", "due_at, id")


def add(*ids: str, target: str = "t") -> Operation[int]:
    for each in ids:
        yield _ADD(each, target, b"/")
    return len(ids)


async def ids(journals: Journals) -> list[str]:
    return [row["id"] for row in await journals.rows("SELECT id FROM outbox_events ORDER BY id")]


async def test_an_operation_is_there_for_others_once_its_call_has_returned(journals: Journals) -> None:
    journal = await journals.replica()
    assert await journal.transact(add("1", "2")) == 2
    assert await ids(journals) == ["1", "2"]
    assert await (await journals.replica("b")).read(one("SELECT count(*) AS n FROM outbox_events")) != []


async def test_an_operation_that_fails_leaves_nothing(journals: Journals) -> None:
    journal = await journals.replica()
    await journal.transact(add("1"))
    with pytest.raises(JournalUnavailable) as caught:
        await journal.transact(add("2", "3", "1"))
    assert (caught.value.trouble, caught.value.unsure) == ("failed", False)
    assert await ids(journals) == ["1"]
    assert await journal.transact(add("2")) == 1


async def test_an_operation_that_fails_takes_none_of_its_neighbours_with_it(journals: Journals) -> None:
    """Those may be in the same commit."""
    journal = await journals.replica()
    asked = [journal.transact(add(*each)) for each in (("1", "2"), ("3", "1"), ("4", "5"))]
    done = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in done].count(JournalUnavailable) == 1
    written = set(await ids(journals))
    assert {"4", "5"} <= written
    # The two that contain "1" exclude each other; which of them is first is nobody's promise.
    assert ("2" in written) != ("3" in written)


async def test_many_operations_at_once_all_happen(journals: Journals) -> None:
    replicas = [await journals.replica(name) for name in "abc"]
    asked = [replicas[index % 3].transact(add(f"{index:04}")) for index in range(600)]
    assert await asyncio.gather(*asked) == [1] * 600
    assert len(await ids(journals)) == 600


async def test_the_journals_clock_is_the_time(journals: Journals) -> None:
    rows = await journals.rows("SELECT {now} AS t, {now} + $1 AS later", 10.0)
    assert abs(rows[0]["t"] - time.time()) < 60
    assert rows[0]["later"] - rows[0]["t"] == pytest.approx(10, abs=0.01)


async def test_values_come_back_as_they_were_written(journals: Journals) -> None:
    await journals.rows(
        "INSERT INTO outbox_events (id, target, state, method, path, headers, body, size, correlation_id, created_at)"
        " VALUES ($1, $2, '', '', $3, $4, $5, $6, '', $7)",
        *("ä'\"", "t", b"\x00\xff", b"", b"x" * 70_000, 2**40, 0.125),
    )
    row = (await journals.rows("SELECT * FROM outbox_events"))[0]
    assert (row["id"], row["path"], row["headers"], len(row["body"])) == ("ä'\"", b"\x00\xff", b"", 70_000)
    assert (row["size"], row["created_at"], row["order_key"], bool(row["published"])) == (2**40, 0.125, None, False)


async def test_the_runbooks_statement_works_as_it_stands(journals: Journals) -> None:
    journal = await journals.replica()
    await journal.transact(add("1", "2"))
    await journals.rows("UPDATE outbox_events SET published = TRUE WHERE id = $1", "1")
    rows = await journals.rows("SELECT COUNT(*) AS n, MIN(created_at) AS oldest FROM outbox_events WHERE NOT published")
    assert rows[0]["n"] == 1


# Leases.


async def test_what_is_due_is_claimed_once_by_one_replica(journals: Journals) -> None:
    replicas = [await journals.replica(name) for name in "abcd"]
    await replicas[0].transact(add(*(f"{each:03}" for each in range(100))))

    async def take(name: str, index: int) -> list[str]:
        taken = []
        while rows := await replicas[index].transact(QUEUE.claim(name, 60.0, 7)):
            assert all(row["owner"] == name and row["fence"] == 1 for row in rows)
            taken += [row["id"] for row in rows]
        return taken

    taken = await asyncio.gather(*(take(name, index) for index, name in enumerate("wxyz")))
    everything = [each for part in taken for each in part]
    assert len(everything) == 100 == len(set(everything))


async def test_a_claim_takes_as_many_as_it_says_and_the_oldest_first(journals: Journals) -> None:
    journal = await journals.replica()
    await journal.transact(add("1", "2", "3"))
    await journals.rows("UPDATE outbox_events SET due_at = due_at - 10 WHERE id = $1", "2")
    assert [row["id"] for row in await journal.transact(QUEUE.claim("w", 60.0, 1))] == ["2"]


async def test_what_is_not_due_is_not_claimed(journals: Journals) -> None:
    journal = await journals.replica()
    await journal.transact(add("1", "2"))
    await journals.rows("UPDATE outbox_events SET due_at = due_at + 100 WHERE id = $1", "1")
    await journals.rows("UPDATE outbox_events SET due_at = NULL WHERE id = $1", "2")
    assert list(await journal.transact(QUEUE.claim("w", 60.0, 9))) == []


async def lease_of(journals: Journals, owner: str, seconds: float = 60.0) -> Lease:
    rows = await (await journals.replica(owner)).transact(QUEUE.claim(owner, seconds, 1))
    return QUEUE.lease(rows[0])


async def test_a_late_owner_changes_nothing(journals: Journals) -> None:
    a, b = await journals.replica("a"), await journals.replica("b")
    await a.transact(add("1"))
    first = await lease_of(journals, "a")
    assert list(await b.transact(QUEUE.claim("b", 60.0, 1))) == []
    await journals.pass_time("outbox_events", 61.0, "lease_until")
    second = await lease_of(journals, "b")
    assert (first.fence, second.fence) == (1, 2)
    assert not await a.transact(QUEUE.renew(first, 60.0))
    assert not await a.transact(QUEUE.let_go(first))
    assert await b.transact(QUEUE.renew(second, 60.0))


async def test_the_same_owner_with_an_old_fence_is_late_too(journals: Journals) -> None:
    a = await journals.replica("a")
    await a.transact(add("1"))
    first = await lease_of(journals, "a")
    await journals.pass_time("outbox_events", 61.0, "lease_until")
    second = await lease_of(journals, "a")
    assert not await a.transact(QUEUE.renew(first, 60.0))
    assert await a.transact(QUEUE.renew(second, 60.0))


async def test_an_owner_whose_lease_has_ended_may_renew_it_while_nobody_has_taken_the_record(
    journals: Journals,
) -> None:
    a = await journals.replica("a")
    await a.transact(add("1"))
    lease = await lease_of(journals, "a")
    await journals.pass_time("outbox_events", 61.0, "lease_until")
    assert await a.transact(QUEUE.renew(lease, 60.0))
    assert list(await a.transact(QUEUE.claim("b", 60.0, 1))) == []


async def test_what_is_let_go_may_be_taken_at_once(journals: Journals) -> None:
    a = await journals.replica("a")
    await a.transact(add("1"))
    assert await a.transact(QUEUE.let_go(await lease_of(journals, "a")))
    assert (await lease_of(journals, "b")).fence == 2


# Wake-ups.


def told(topic: str, *ids: str) -> Operation[None]:
    yield from add(*ids)
    yield Notice(topic)


@pytest.mark.parametrize("listener", ["a", "b"])
async def test_whoever_listens_is_woken_by_a_commit(journals: Journals, listener: str) -> None:
    woken = asyncio.Event()
    listening = await journals.replica(listener)
    speaking = await journals.replica("a")
    listening.listen("outbox", woken.set)
    await speaking.transact(told("outbox", "1"))
    await asyncio.wait_for(woken.wait(), 20)
    assert await ids(journals) == ["1"]


async def test_nobody_is_woken_by_another_topic_or_after_the_end(journals: Journals) -> None:
    """Within one replica; from another one a wake-up may be for nothing."""
    journal = await journals.replica()
    calls: list[str] = []
    end = journal.listen("outbox", lambda: calls.append("outbox"))
    heard = asyncio.Event()
    journal.listen("last", heard.set)
    await journal.transact(told("another", "1"))
    await journal.transact(told("last", "2"))
    await asyncio.wait_for(heard.wait(), 20)
    end()
    heard.clear()
    await journal.transact(told("outbox", "3"))
    await journal.transact(told("last", "4"))
    await asyncio.wait_for(heard.wait(), 20)
    assert calls == []


async def test_an_operation_that_fails_wakes_nobody(journals: Journals) -> None:
    journal = await journals.replica()
    calls: list[str] = []
    heard = asyncio.Event()
    journal.listen("outbox", lambda: calls.append("outbox"))
    journal.listen("last", heard.set)

    def failing() -> Operation[None]:
        yield Notice("outbox")
        yield Statement("INSERT INTO outbox_events (id) VALUES ('lacks everything else')")()

    with pytest.raises(JournalUnavailable):
        await journal.transact(failing())
    await journal.transact(told("last", "2"))
    await asyncio.wait_for(heard.wait(), 20)
    assert calls == []


# Cleaning.

_DELETE = Statement(
    "DELETE FROM outbox_events WHERE id IN"
    " (SELECT id FROM outbox_events WHERE state = 'delivered' ORDER BY id LIMIT $1 {skip_locked}) RETURNING id"
)


def delete_delivered(most: int) -> Operation[int]:
    return len((yield _DELETE(most)))


async def test_what_is_no_longer_kept_is_deleted_in_batches(journals: Journals) -> None:
    replicas = [await journals.replica(name) for name in "ab"]
    await replicas[0].transact(add(*(f"{each:03}" for each in range(500))))
    await journals.rows("UPDATE outbox_events SET state = 'delivered' WHERE id < $1", "450")
    cleaners = [Cleaner(each, (delete_delivered,), 60.0) for each in replicas]
    before = [each.state.operations for each in replicas]
    assert sum(await asyncio.gather(*(each.clean() for each in cleaners))) == 450
    batches = sum(each.state.operations for each in replicas) - sum(before)
    assert batches >= 450 / BATCH
    assert len(await ids(journals)) == 50
    assert await cleaners[0].clean() == 0


# Schema.


async def test_the_tables_are_made_by_numbered_migrations(journals: Journals) -> None:
    journal = await journals.replica()
    state = await journal.schema()
    assert state.current
    assert state.version == known() == len(migrations())
    names = [row["name"] for row in await journals.rows("SELECT name FROM journal_schema ORDER BY version")]
    assert names == [each.name for each in migrations()]
    assert await journal.upgrade() == []


async def test_tables_of_a_newer_gateway_are_left_alone(journals: Journals) -> None:
    await journals.rows("INSERT INTO journal_schema (version, name, applied_at) VALUES (9999, '9999_more', 0)")
    journal = journals.make()
    await journal.start()
    try:
        assert journal.state.trouble == "schema"
        assert "run the newer gateway" in journal.state.text
        with pytest.raises(JournalUnavailable, match="9999"):
            await journal.upgrade()
        with pytest.raises(JournalUnavailable, match="9999"):
            await journal.transact(add("1"))
    finally:
        await journal.close()
    assert await ids(journals) == []


async def test_a_table_that_is_gone_is_noticed_although_the_others_can_be_used(journals: Journals) -> None:
    journal = await journals.replica()
    await journal.run(PROBE())
    await journals.rows("ALTER TABLE saga_events RENAME TO gone")
    with pytest.raises(JournalUnavailable) as caught:
        await journal.run(PROBE())
    assert caught.value.trouble == "schema"


async def test_a_journal_that_was_closed_refuses(journals: Journals) -> None:
    journal = await journals.replica()
    last = journal.transact(add("1"))
    await journal.close()
    assert await last == 1
    with pytest.raises(JournalUnavailable) as caught:
        await journal.transact(add("2"))
    assert caught.value.trouble == "closed"

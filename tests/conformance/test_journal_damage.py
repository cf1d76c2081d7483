"""Rows into which somebody has written by hand what this gateway never writes: they are shown, and others are not kept.

SQLite takes a value of any type in any column, so it is tried there; PostgreSQL refuses most of it by itself.
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from gateway.journal import idempotency, outbox, outbox_backlog, sagas
from gateway.journal.idempotency import Kept
from gateway.journal.ids import RecordIds
from gateway.journal.outbox import Message
from gateway.journal.port import Operation, Rows
from gateway.journal.saga_moves import Event, Move, StepRow
from gateway.journal.sagas import NewRun
from tests.conformance.journals import Journals, journals_in

_IDS = RecordIds("msg_")
_RUNS = RecordIds("saga_")
# Literals of SQL. A text that is not UTF-8, a number that Python or a date does not hold, none, and the wrong types.
ODD = ["'odd'", "'12'", "x'ff00'", "CAST(x'ff00' AS TEXT)", "-7", "1.5", "1e300", "9e999", "9223372036854775807", "''"]
OF_MESSAGE = [
    *("target", "state", "published", "blocked", "order_key", "owner", "fence", "lease_until", "due_at", "created_at"),
    *("ended_at", "attempts", "status", "size", "correlation_id", "error", "method", "path", "headers", "body"),
]
OF_RUN = [
    *(
        "workflow",
        "state",
        "definition",
        "input",
        "headers",
        "correlation_id",
        "cancelled",
        "reason",
        "events",
        "owner",
    ),
    *("fence", "lease_until", "due_at", "deadline_at", "created_at", "updated_at", "ended_at"),
]
OF_STEP = ["position", "name", "state", "attempts", "status", "error", "result", "updated_at"]
STEP_DONE = Move("running", (StepRow(0, "reserve", "done", 1, 200, "", None),), (Event("step_done"),), pause=0.0)
OF_EVENT = ["sequence", "at", "kind", "step", "detail"]


@pytest.fixture
async def file(tmp_path: Path) -> AsyncIterator[Journals]:
    made = journals_in(tmp_path)
    yield made
    await made.close()


async def do(journals: Journals, operation: Any) -> Any:
    return await (await journals.replica()).transact(operation)


async def put(journals: Journals) -> str:
    message = Message(_IDS.new(), "hooks", None, "POST", b"/in", b"X-A: 1\r\n", b"body", "correlation-1")
    await do(journals, outbox.insert(message))
    return message.id


async def begin(journals: Journals) -> str:
    run = NewRun(_RUNS.new(), "order", b"{}", b"{}", b"", "correlation-1", 60.0)
    step = StepRow(0, "reserve", "running", 1, 0, "", None)
    await do(journals, sagas.start(run, Move("running", (step,), (Event("started"),)), None, 0.0))
    return run.id


@pytest.mark.parametrize("column", OF_MESSAGE)
async def test_a_damaged_message_is_shown_and_keeps_no_other(file: Journals, column: str) -> None:
    for odd in ODD:
        damaged, other = await put(file), await put(file)
        await file.rows(f"UPDATE outbox_events SET {column} = {odd} WHERE id = $1", damaged)  # noqa: S608
        shown = await do(file, outbox.show(damaged))
        assert (shown.id, shown.due_in is None or abs(shown.due_in) < 1e12) == (damaged, True)
        assert {damaged, other} <= {each.id for each in await do(file, outbox.listed("", "", "", 1000))}
        assert sum(each.messages for each in await do(file, outbox_backlog.counts())) >= 2
        assert (await do(file, outbox_backlog.backlog())).pending >= 1
        taken = await do(file, outbox.claim("hooks", f"worker-{odd}", 25.0, 1000))
        assert other in {each.message.id for each in taken}
        for each in taken:
            await do(file, outbox.delivered(each, 204))
        assert (await do(file, outbox.show(other))).state == "delivered"
        await do(file, outbox.replay(damaged))
        await do(file, outbox.replay_range("delivered", "", (0.0, ""), 1e300, 1000))
        await file.rows("DELETE FROM outbox_events")


async def test_numbers_that_no_sum_holds_keep_no_count_and_no_message(journals: Journals) -> None:
    """In both backends: a number that fits its column may be too large for what is made of it."""
    damaged, other = [await put(journals), await put(journals)], await put(journals)
    largest = "9223372036854775807"
    for each in damaged:
        await journals.rows(
            f"UPDATE outbox_events SET size = {largest}, fence = {largest}, attempts = {largest} WHERE id = $1",  # noqa: S608
            each,
        )
    assert (await do(journals, outbox_backlog.backlog())).pending == 3
    assert sum(each.messages for each in await do(journals, outbox_backlog.counts())) == 3
    taken = await do(journals, outbox.claim("hooks", "worker", 25.0, 10))
    assert {each.message.id for each in taken} == {*damaged, other}
    for each in taken:
        assert await do(journals, outbox.give_up(each, 500, "answered 500"))
    assert (await do(journals, outbox.replay_range("dead", "", (0.0, ""), 1e300, 10))).messages == 3


async def test_sizes_of_records_that_no_sum_holds_keep_no_count_and_no_cleaning(journals: Journals) -> None:
    for number in range(3):
        key = bytes([number]) * 32
        await do(journals, _claimed(key, f"owner-{number}"))
    await journals.rows("UPDATE idempotency_records SET size = 9223372036854775807 WHERE owner <> $1", "owner-0")
    found = await do(journals, idempotency.totals())
    assert (found.records, found.bytes) == (3, 4)
    assert [(each.records, each.bytes) for each in await do(journals, idempotency.counts())] == [(3, 4)]
    last = await do(journals, idempotency.last_of_excess(1, 0))
    assert (await do(journals, idempotency.delete_oldest(last, 10))).records >= 2


def _claimed(key: bytes, owner: str) -> Operation[None]:
    rows = yield idempotency.claim(key, "orders", owner, 25.0, 60.0, retry=False)
    held = (key, owner, idempotency.fence_of(rows) or 0)
    yield idempotency.finish(held, Kept(b"c" * 32, 200, b"he", b"bo"))


@pytest.mark.parametrize("column", ["method", "path", "headers", "body"])
async def test_a_message_that_cannot_be_sent_is_given_up_with_the_reason(file: Journals, column: str) -> None:
    damaged = await put(file)
    odd = "x'ff00'" if column == "method" else "7"
    await file.rows(f"UPDATE outbox_events SET {column} = {odd} WHERE id = $1", damaged)  # noqa: S608
    assert await do(file, outbox.claim("hooks", "worker", 25.0, 10)) == []
    shown = await do(file, outbox.show(damaged))
    assert (shown.state, shown.attempts, shown.status) == ("dead", 1, 0)
    assert shown.error.startswith("the record is damaged")


async def test_a_text_that_is_written_by_hand_is_sent_as_it_stands(file: Journals) -> None:
    mended = await put(file)
    await file.rows("UPDATE outbox_events SET body = '{\"sum\": 5}' WHERE id = $1", mended)
    (taken,) = await do(file, outbox.claim("hooks", "worker", 25.0, 10))
    assert (taken.message.id, taken.message.body) == (mended, b'{"sum": 5}')


@pytest.mark.parametrize(
    ("table", "column"),
    [
        *(("saga_runs", column) for column in OF_RUN),
        *(("saga_steps", column) for column in OF_STEP),
        *(("saga_events", column) for column in OF_EVENT),
    ],
)
async def test_a_damaged_run_is_shown_and_keeps_no_other(file: Journals, table: str, column: str) -> None:
    for odd in ODD:
        damaged, other = await begin(file), await begin(file)
        key = "id" if table == "saga_runs" else "run_id"
        await file.rows(f"UPDATE {table} SET {column} = {odd} WHERE {key} = $1", damaged)  # noqa: S608
        shown = await do(file, sagas.show(damaged, 10))
        assert shown.run.id == damaged
        assert {damaged, other} <= {each.id for each in await do(file, sagas.listed("", "", "", 1000))}
        assert sum(each.runs for each in (await do(file, sagas.open_runs())).counts) >= 1
        await do(file, sagas.ended([damaged, other]))
        taken = await do(file, sagas.claim(f"worker-{odd}", 25.0, 1000))
        assert other in {each.run.id for each in taken}
        for each in taken:
            assert await do(file, sagas.move(each.lease, 25.0, lambda _: STEP_DONE)) is not None
            after = await do(file, sagas.show(each.run.id, 10))
            assert "done" in {step.state for step in after.steps}
        await it_can_be_ordered(file, damaged, {"done", "held"} if column == "lease_until" else {"done"})
        await file.rows("DELETE FROM saga_runs")


async def it_can_be_ordered(journals: Journals, run_id: str, answers: set[str]) -> None:
    """What an operator is told is what has happened."""
    answer = await do(journals, sagas.ordered(run_id, lambda _: Move("stuck", due=False)))
    assert answer in answers
    if answer == "done":
        assert (await do(journals, sagas.show(run_id, 0))).run.state == "stuck"


@pytest.mark.parametrize("events", [-7, 2**53, 2**63 - 1])
async def test_a_number_of_events_that_is_none_is_mended_by_the_events(journals: Journals, events: int) -> None:
    run_id = await begin(journals)
    await journals.rows("UPDATE saga_runs SET events = $2 WHERE id = $1", run_id, events)
    (taken,) = await do(journals, sagas.claim("worker", 25.0, 10))
    moved = await do(journals, sagas.move(taken.lease, 25.0, lambda _: STEP_DONE))
    assert moved.known.events == 2
    await journals.rows("UPDATE saga_runs SET events = $2 WHERE id = $1", run_id, events)
    await it_can_be_ordered(journals, run_id, {"done"})
    assert [each.kind for each in (await do(journals, sagas.show(run_id, 10))).events] == ["started", "step_done"]


async def test_a_run_that_is_not_understood_is_put_off_as_it_stands(file: Journals) -> None:
    run_id = await begin(file)
    await file.rows("UPDATE saga_runs SET state = 'odd' WHERE id = $1", run_id)
    (taken,) = await do(file, sagas.claim("worker", 25.0, 10))
    assert await do(file, sagas.put_off(taken.lease, 60.0))
    (row,) = await file.rows("SELECT state, owner FROM saga_runs WHERE id = $1", run_id)
    assert (row["state"], row["owner"]) == ("odd", "")
    assert (await do(file, sagas.show(run_id, 0))).run.due_in > 50.0
    assert await do(file, sagas.claim("worker-2", 25.0, 10)) == []


async def test_states_that_are_none_are_counted_together(file: Journals) -> None:
    for number in range(2):
        run_id, message_id = await begin(file), await put(file)
        await file.rows(f"UPDATE saga_runs SET state = 'odd{number}' WHERE id = $1", run_id)  # noqa: S608
        await file.rows(f"UPDATE outbox_events SET state = 'odd{number}' WHERE id = $1", message_id)  # noqa: S608
    assert [each[:3] for each in (await do(file, sagas.open_runs())).counts] == [("order", "damaged", 2)]
    assert [each[:3] for each in await do(file, outbox_backlog.counts())] == [("hooks", "damaged", 2)]


async def test_a_size_with_a_fraction_takes_no_bytes_of_the_others_away(file: Journals) -> None:
    damaged, _ = await put(file), await put(file)
    before = (await do(file, outbox_backlog.backlog())).bytes
    await file.rows("UPDATE outbox_events SET size = 1.5 WHERE id = $1", damaged)
    assert (await do(file, outbox_backlog.backlog())).bytes == before - 3


async def test_a_message_whose_id_is_damaged_is_not_sent(file: Journals) -> None:
    damaged = await put(file)
    await file.rows("UPDATE outbox_events SET id = CAST(x'ff00' AS TEXT) WHERE id = $1", damaged)
    assert await do(file, outbox.claim("hooks", "worker", 25.0, 10)) == []


@pytest.mark.parametrize("fence", [2**63 - 1, 1.5])
async def test_a_key_whose_fence_is_damaged_can_be_claimed_and_finished(file: Journals, fence: float) -> None:
    key = b"k" * 32
    await do(file, _claimed(key, "first"))
    await file.rows("UPDATE idempotency_records SET fence = $1, state = 'unknown'", fence)
    (row,) = await do(file, _again(key))
    assert row["fence"] >= 0
    assert (await do(file, idempotency.totals())).bytes == 4


def _again(key: bytes) -> Operation[Rows]:
    rows = yield idempotency.claim(key, "orders", "second", 25.0, 60.0, retry=True)
    held = (key, "second", idempotency.fence_of(rows) or 0)
    return (yield idempotency.finish(held, Kept(b"c" * 32, 200, b"he", b"bo")))

"""Runs of workflows: the operations do the same in both backends."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.journal import saga_moves, sagas
from gateway.journal.ids import RecordIds
from gateway.journal.leases import Lease
from gateway.journal.saga_moves import Event, Move, StepRow
from gateway.journal.sagas import Locked, NewRun, Shown, Taken
from tests.conformance.journals import Journals

RUNS = "saga_runs"
LEASE = 6.0
_IDS = RecordIds("saga_")


def row(position: int, state: Any, attempts: int = 1, **more: Any) -> StepRow:
    return StepRow(position, f"s{position}", state, attempts, **{"status": 0, "error": "", "result": None, **more})


def running(*steps: StepRow, **more: Any) -> Callable[[Locked], Move]:
    return lambda _locked: Move("running", steps, **more)


async def put(journals: Journals, *, workflow: str = "w", owner: str = "", deadline: float = 60.0) -> str:
    run = NewRun(_IDS.new(), workflow, b"definition", b"\x00input", b"X-A: 1\r\n", "correlation-1", deadline)
    lease = Lease(run.id, owner, 1) if owner else None
    first = Move("running", (row(0, "running"),) if owner else (), (Event("started"),))
    await do(journals, sagas.start(run, first, lease, LEASE))
    return run.id


async def do(journals: Journals, operation: Any, by: str = "a") -> Any:
    return await (await journals.replica(by)).transact(operation)


async def take(journals: Journals, owner: str = "w1", most: int = 10, by: str = "a") -> list[Taken]:
    return list(await do(journals, sagas.claim(owner, LEASE, most), by))


async def show(journals: Journals, run_id: str, events: int = 100) -> Shown:
    found = await (await journals.replica("b")).read(sagas.show(run_id, events))
    assert found is not None
    return found


async def test_a_run_is_kept_byte_for_byte(journals: Journals) -> None:
    made = await put(journals)
    assert await do(journals, sagas.any_due()) is True
    (taken,) = await take(journals)
    assert taken.run == NewRun(made, "w", b"definition", b"\x00input", b"X-A: 1\r\n", "correlation-1", 0.0)
    assert (taken.state, taken.steps, taken.begun) == ("running", (), False)
    assert (taken.lease.owner, taken.lease.fence) == ("w1", 2)
    shown = await show(journals, made)
    assert (shown.run.held, shown.run.state, shown.run.cancelled) == (True, "running", False)
    assert 0 < shown.run.left <= 60
    assert [each.kind for each in shown.events] == ["started"]


async def test_whoever_begins_a_run_holds_it(journals: Journals) -> None:
    made = await put(journals, owner="w1")
    assert await do(journals, sagas.any_due()) is False
    assert await take(journals) == []
    mine = Lease(made, "w1", 1)
    assert await do(journals, sagas.renew(mine, LEASE)) is True
    await journals.pass_time(RUNS, LEASE + 1, "lease_until")
    (taken,) = await take(journals, "w2")
    assert [each[:4] for each in taken.steps] == [(0, "s0", "running", 1)]
    assert await do(journals, sagas.renew(mine, LEASE)) is False
    assert await do(journals, sagas.move(mine, LEASE, running(row(0, "done")))) is None
    assert await do(journals, sagas.let_go(mine)) is False
    assert (await show(journals, made)).steps[0].state == "running"


async def test_each_run_is_taken_by_one(journals: Journals) -> None:
    for name in "abcd":
        await journals.replica(name)
    made = [await put(journals) for _ in range(40)]
    rounds = [take(journals, f"w{number}", 5, "abcd"[number % 4]) for number in range(12)]
    taken = [each.run.id for got in await asyncio.gather(*rounds) for each in got]
    taken += [each.run.id for each in await take(journals, "rest", 40)]
    assert sorted(taken) == sorted(made)


async def test_a_transition_is_all_or_nothing_and_keeps_what_it_does_not_say(journals: Journals) -> None:
    made = await put(journals, owner="w1")
    mine = Lease(made, "w1", 1)
    done = row(0, "done", status=200, result=b'{"a":1}')
    move = await do(
        journals, sagas.move(mine, LEASE, running(done, row(1, "running"), events=(Event("x", "s0", "y"),)))
    )
    assert move is not None
    await do(journals, sagas.move(mine, LEASE, running(row(0, "undoing", error="z"))))
    shown = await show(journals, made)
    first, second = shown.steps
    assert (first.state, first.result, first.error, first.status) == ("undoing", b'{"a":1}', "z", 0)
    assert (second.name, second.state) == ("s1", "running")
    assert [(each.kind, each.step, each.detail) for each in shown.events] == [("started", "", ""), ("x", "s0", "y")]

    def fails(_locked: Locked) -> Move:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await do(journals, sagas.move(mine, LEASE, fails))
    later = await show(journals, made)
    assert (later.steps, later.events, later.run.state) == (shown.steps, shown.events, "running")


async def test_a_run_that_waits_is_due_again_then(journals: Journals) -> None:
    made = await put(journals, owner="w1")
    mine = Lease(made, "w1", 1)
    await do(journals, sagas.move(mine, LEASE, running(pause=30.0, reason="s0: answered 500")))
    assert await take(journals) == []
    shown = await show(journals, made)
    assert (shown.run.held, shown.run.reason) == (False, "s0: answered 500")
    assert shown.run.due_in is not None
    assert 20 < shown.run.due_in <= 30
    await journals.pass_time(RUNS, 31, "due_at")
    (taken,) = await take(journals)
    await do(journals, sagas.move(taken.lease, LEASE, running(deadline=500.0)))
    shown = await show(journals, made)
    assert shown.run.left > 400
    assert shown.run.reason == "s0: answered 500"


async def test_what_has_ended_or_is_stuck_is_nobodys(journals: Journals) -> None:
    one, two = [await put(journals, owner="w1") for _ in range(2)]
    await do(journals, sagas.move(Lease(one, "w1", 1), LEASE, lambda _: Move("succeeded", due=False, ended=True)))
    await do(journals, sagas.move(Lease(two, "w1", 1), LEASE, lambda _: Move("stuck", due=False)))
    assert await take(journals) == []
    ended = (await show(journals, one)).run
    assert (ended.state, ended.due_in, ended.held) == ("succeeded", None, False)
    assert ended.ended_at is not None
    assert (await show(journals, two)).run.ended_at is None
    found = await do(journals, sagas.ended([one, two, "saga_nothing"]))
    assert {each.run.id for each in found} == {one, two}


async def test_operators_change_what_nobody_holds(journals: Journals) -> None:
    made = await put(journals, owner="w1")
    mine = Lease(made, "w1", 1)
    assert await do(journals, sagas.ordered(made, lambda _: Move("compensated"))) == "held"
    await do(journals, sagas.move(mine, LEASE, lambda _: Move("stuck", due=False)))
    assert await do(journals, sagas.ordered(made, lambda _: None)) == "refused"
    seen: list[Shown] = []

    def decide(shown: Shown) -> Move:
        seen.append(shown)
        return Move("running", (row(0, "pending"),), (Event("operator_retry"),), pause=0.0, reason="because")

    assert await do(journals, sagas.ordered(made, decide)) == "done"
    assert seen[0].run.state == "stuck"
    # Whoever held it before is late in any case.
    assert await do(journals, sagas.move(mine, LEASE, running())) is None
    (taken,) = await take(journals)
    assert taken.run.id == made
    assert (await show(journals, made)).run.reason == "because"
    assert await do(journals, sagas.ordered("saga_nothing", decide)) == "gone"


def cancelled(run_id: str, *, may: bool) -> Any:
    return sagas.cancelled(run_id, "because", lambda _: None, lambda _: may)


async def test_whoever_works_on_a_run_hears_that_it_is_cancelled(journals: Journals) -> None:
    made = await put(journals, owner="w1")
    assert await do(journals, cancelled(made, may=False)) == "refused"
    assert await do(journals, cancelled(made, may=True)) == "done"
    heard: list[Locked] = []

    def decide(locked: Locked) -> Move:
        heard.append(locked)
        return Move("compensated", due=False, ended=True)

    await do(journals, sagas.move(Lease(made, "w1", 1), LEASE, decide))
    assert heard[0].cancelled
    assert 0 < heard[0].left <= 60
    shown = await show(journals, made)
    assert [each.kind for each in shown.events] == ["started", "operator_cancel"]
    # Nobody holds it any more, and `decide` has the word.
    assert await do(journals, cancelled(made, may=True)) == "refused"
    assert await do(journals, cancelled("saga_nothing", may=True)) == "gone"


async def test_what_is_counted_and_listed(journals: Journals) -> None:
    made = [await put(journals, workflow="ab"[number % 2], owner="w1") for number in range(5)]
    await do(journals, sagas.move(Lease(made[0], "w1", 1), LEASE, lambda _: Move("succeeded", due=False, ended=True)))
    await do(journals, sagas.move(Lease(made[1], "w1", 1), LEASE, lambda _: Move("stuck", due=False)))
    await journals.pass_time(RUNS, 100, "created_at")
    opened = await do(journals, sagas.open_runs())
    assert {(each.workflow, each.state): each.runs for each in opened.counts} == {
        ("a", "running"): 2,
        ("b", "running"): 1,
        ("b", "stuck"): 1,
    }
    assert opened.pending == 4
    assert 99 < opened.oldest < 200
    first = await do(journals, sagas.listed("", "", "", 3))
    rest = await do(journals, sagas.listed("", "a", first[-1].id, 3))
    assert [each.id for each in first] == made[:1:-1]
    assert [each.id for each in rest] == [made[0]]
    # What clients have sent may be large, and a page has many runs.
    assert not any(isinstance(value, bytes) for each in first for value in each)
    assert [each.id for each in await do(journals, sagas.listed("stuck", "", "", 9))] == [made[1]]


def test_to_wait_for_many_runs_costs_one_statement() -> None:
    """Each end of a run wakes whoever looks for those that clients wait for."""
    looking = sagas.ended(f"saga_{number}" for number in range(500))
    next(looking)
    with pytest.raises(StopIteration) as end:
        looking.send([])
    assert end.value.value == []


async def test_what_has_ended_is_deleted_after_its_time(journals: Journals) -> None:
    made = [await put(journals, owner="w1") for _ in range(4)]
    for each in made[:3]:
        await do(
            journals, sagas.move(Lease(each, "w1", 1), LEASE, lambda _: Move("compensated", due=False, ended=True))
        )
    assert await do(journals, sagas.delete_ended(60.0, 10)) == 0
    await journals.pass_time(RUNS, 61, "ended_at", "created_at")
    assert await do(journals, sagas.delete_ended(60.0, 2)) == 2
    assert await do(journals, sagas.delete_ended(60.0, 2)) == 1
    assert [each.id for each in await do(journals, sagas.listed("", "", "", 9))] == [made[3]]
    for table in ("saga_steps", "saga_events"):
        (left,) = await journals.rows(f"SELECT count(*) AS n FROM {table}")  # noqa: S608 - names of this test
        assert int(left["n"]) == 1


async def test_whoever_knows_a_run_need_not_lock_it(journals: Journals) -> None:
    made = await put(journals, owner="w1")
    mine = Lease(made, "w1", 1)
    journal = await journals.replica("a")
    done = row(0, "done", status=200, error="é'\"\\", result=b"\x00{}")
    move = Move("running", (done, row(1, "running")), (Event("x", "s0", "y"), Event("z")), deadline=500.0, reason="why")
    rows = await journal.run(saga_moves.moved(mine, LEASE, 1, move))
    known = saga_moves.known(rows, 1, move)
    assert known is not None
    assert known.events == 3
    assert 400 < known.left <= 500
    shown = await show(journals, made)
    assert [each[:7] for each in shown.steps] == [done[:7], row(1, "running")[:7]]
    assert [(each.kind, each.step, each.detail) for each in shown.events] == [
        ("started", "", ""), ("x", "s0", "y"), ("z", "", ""),
    ]  # fmt: skip
    assert (shown.run.reason, shown.run.held) == ("why", True)
    await journals.pass_time(RUNS, LEASE + 1, "lease_until")
    assert await journal.run(saga_moves.moved(mine, LEASE, 3, Move("running")))
    assert await take(journals, "w2") == []
    assert await journal.run(saga_moves.moved(mine, LEASE, 3, Move("running", pause=0.0)))
    assert [each.run.id for each in await take(journals, "w2")] == [made]


async def test_what_has_changed_since_it_was_known_is_left_alone(journals: Journals) -> None:
    made = await put(journals, owner="w1")
    journal = await journals.replica("a")
    move = Move("succeeded", (row(0, "done"),), (Event("x"),), due=False, ended=True)
    before = await show(journals, made)
    others = (Lease(made, "w2", 1), 1), (Lease(made, "w1", 2), 1), (Lease(made, "w1", 1), 0)
    for lease, events in others:
        rows = await journal.run(saga_moves.moved(lease, LEASE, events, move))
        assert saga_moves.known(rows, events, move) is None
    after = await show(journals, made)
    assert (after.steps, after.events, after.run.updated_at) == (before.steps, before.events, before.run.updated_at)
    assert await do(journals, sagas.cancelled(made, "INC-7", lambda _: None, lambda _: True)) == "done"
    assert not await journal.run(saga_moves.moved(Lease(made, "w1", 1), LEASE, 1, move))
    assert (await show(journals, made)).run.state == "running"


@pytest.mark.parametrize("listener", ["a", "b"])
async def test_the_end_of_a_run_wakes_whoever_waits_for_it(journals: Journals, listener: str) -> None:
    made = await put(journals, owner="w1")
    woken = asyncio.Event()
    (await journals.replica(listener)).listen(saga_moves.ENDED_TOPIC, woken.set)
    move = Move("succeeded", due=False, ended=True)
    assert await (await journals.replica("a")).run(saga_moves.moved(Lease(made, "w1", 1), LEASE, 1, move))
    async with asyncio.timeout(60.0):
        await woken.wait()

"""Messages of the outbox: the operations do the same in both backends."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.assembly.outbox import Outbox
from gateway.config import load
from gateway.journal import outbox, outbox_backlog
from gateway.journal.ids import RecordIds
from gateway.journal.outbox import Message, Shown, Taken
from gateway.telemetry.metrics.catalogue import Metrics
from tests.conformance.journals import Journals

TABLE = "outbox_events"
LEASE = 25.0
_IDS = RecordIds("msg_")


async def put(
    journals: Journals, body: bytes = b"body", *, target: str = "hooks", key: str | None = None, by: str = "a"
) -> str:
    message = Message(_IDS.new(), target, key, "POST", b"/in?a=1", b"X-A: 1\r\n", body, "correlation-1")
    await (await journals.replica(by)).transact(outbox.insert(message))
    return message.id


async def take(
    journals: Journals, owner: str = "w1", *, target: str = "hooks", most: int = 10, by: str = "a"
) -> list[Taken]:
    return await (await journals.replica(by)).transact(outbox.claim(target, owner, LEASE, most))


async def do(journals: Journals, operation: Any) -> Any:
    return await (await journals.replica()).transact(operation)


async def show(journals: Journals, message_id: str) -> Shown:
    found = await (await journals.replica("b")).read(outbox.show(message_id))
    assert found is not None
    return found


async def test_a_message_is_kept_byte_for_byte(journals: Journals) -> None:
    made = await put(journals, bytes(range(256)))
    (taken,) = await take(journals)
    assert taken.message == Message(
        made, "hooks", None, "POST", b"/in?a=1", b"X-A: 1\r\n", bytes(range(256)), "correlation-1"
    )
    assert (taken.attempts, taken.lease.owner, taken.lease.fence) == (0, "w1", 1)
    shown = await show(journals, made)
    assert (shown.state, shown.size, shown.attempts, shown.status, shown.error) == ("sending", 256, 0, 0, "")


async def test_each_message_is_taken_by_one(journals: Journals) -> None:
    for name in "abcd":
        await journals.replica(name)
    made = [await put(journals) for _ in range(40)]
    rounds = [take(journals, f"w{number}", most=5, by="abcd"[number % 4]) for number in range(12)]
    taken = [each.message.id for got in await asyncio.gather(*rounds) for each in got]
    taken += [each.message.id for each in await take(journals, "rest", most=40)]
    assert sorted(taken) == sorted(made)


async def test_messages_are_of_their_target(journals: Journals) -> None:
    made = await put(journals, target="it's")
    assert await take(journals) == []
    assert [each.message.id for each in await take(journals, target="it's")] == [made]


async def test_ends_are_written_once_and_by_the_holder(journals: Journals) -> None:
    made = await put(journals)
    (first,) = await take(journals, "w1")
    await journals.pass_time(TABLE, LEASE + 1, "lease_until")
    assert (await show(journals, made)).state == "queued"
    (second,) = await take(journals, "w2")
    assert second.lease.fence == 2
    late = (
        outbox.delivered(first, 200),
        outbox.later(first, 500, "late", 1.0),
        outbox.give_up(first, 410, "late"),
        outbox.let_go(first.lease),
    )
    for operation in late:
        assert await do(journals, operation) is False
    assert (await show(journals, made)).state == "sending"
    assert await do(journals, outbox.delivered(second, 204)) is True
    assert await do(journals, outbox.delivered(second, 204)) is False
    shown = await show(journals, made)
    assert (shown.state, shown.attempts, shown.status, shown.due_in) == ("delivered", 1, 204, None)
    assert await take(journals) == []


async def test_a_failed_attempt_is_spent_and_one_that_was_held_back_is_not(journals: Journals) -> None:
    made = await put(journals)
    (taken,) = await take(journals)
    assert await do(journals, outbox.let_go(taken.lease)) is True
    (taken,) = await take(journals)
    assert taken.attempts == 0
    assert await do(journals, outbox.later(taken, 503, "answered 503", 60.0)) is True
    shown = await show(journals, made)
    assert (shown.state, shown.attempts, shown.status, shown.error) == ("queued", 1, 503, "answered 503")
    assert shown.due_in is not None
    assert 30 < shown.due_in <= 60
    assert await take(journals) == []
    await journals.pass_time(TABLE, 61, "due_at")
    (taken,) = await take(journals)
    assert taken.attempts == 1


async def test_of_one_key_one_goes_at_a_time_in_order(journals: Journals) -> None:
    made = [await put(journals, key="k", by="ab"[number % 2]) for number in range(4)]
    other = await put(journals, key="other")
    free = await put(journals)
    first = await take(journals, "w1")
    assert {each.message.id for each in first} == {made[0], other, free}
    assert await take(journals, "w2", by="b") == []
    (head,) = [each for each in first if each.message.id == made[0]]
    # One that waits for its next attempt holds the others up.
    await do(journals, outbox.later(head, 500, "", 60.0))
    assert await take(journals, "w2") == []
    await journals.pass_time(TABLE, 61, "due_at")
    (head,) = await take(journals, "w3")
    assert head.message.id == made[0]
    # A dead one does not.
    await do(journals, outbox.give_up(head, 500, "answered 500"))
    for expected in made[1:]:
        (head,) = await take(journals, "w4")
        assert head.message.id == expected
        assert await take(journals, "w5") == []
        await do(journals, outbox.delivered(head, 200))


async def test_a_replayed_message_waits_for_the_one_of_its_key_that_is_under_way(journals: Journals) -> None:
    dead, following = [await put(journals, key="k") for _ in range(2)]
    (taken,) = await take(journals)
    await do(journals, outbox.give_up(taken, 410, "answered 410"))
    (taken,) = await take(journals)
    assert taken.message.id == following
    assert await do(journals, outbox.replay(following)) is False
    assert await do(journals, outbox.replay(dead)) is True
    assert await take(journals, "w2") == []
    await do(journals, outbox.delivered(taken, 200))
    (again,) = await take(journals, "w2")
    assert (again.message.id, again.attempts) == (dead, 0)
    # Its first holder is late in any case.
    assert again.lease.fence > 2


async def test_replay_of_a_range(journals: Journals) -> None:
    made = [await put(journals) for _ in range(3)] + [await put(journals, target="other")]
    for target in ("hooks", "other"):
        for taken in await take(journals, target=target):
            await do(journals, outbox.give_up(taken, 500, "answered 500"))
    now = float((await journals.rows("SELECT {now} AS now"))[0]["now"])
    start = (0.0, "")
    assert (await do(journals, outbox.replay_range("dead", "", start, now - 3600, 10))).messages == 0
    assert await do(journals, outbox.replay_range("delivered", "", start, now + 1, 10)) == (0, None)
    first = await do(journals, outbox.replay_range("dead", "hooks", start, now + 1, 2))
    assert first.messages == 2
    assert {each.message.id for each in await take(journals)} == set(made[:2])
    rest = await do(journals, outbox.replay_range("dead", "hooks", first.last, now + 1, 2))
    assert rest.messages == 1
    assert {each.message.id for each in await take(journals)} == {made[2]}
    assert await do(journals, outbox.replay("msg_nothing")) is False


async def test_a_range_is_delivered_once_although_its_messages_have_ended_again_before_its_end(
    journals: Journals,
) -> None:
    for _ in range(5):
        await put(journals)
    for taken in await take(journals):
        await do(journals, outbox.delivered(taken, 200))
    replayed, done = 0, outbox.Replayed(2, (0.0, ""))
    while done.last is not None and replayed < 100:
        done = await do(journals, outbox.replay_range("delivered", "", done.last, 1e11, 2))
        replayed += done.messages
        for taken in await take(journals):
            await do(journals, outbox.delivered(taken, 200))
    assert replayed == 5


async def test_who_waits_behind_another_one_of_its_key_is_not_looked_at(journals: Journals) -> None:
    """However many they are: a look for work costs the same."""
    made = [await put(journals, key="k", by="ab"[number % 2]) for number in range(5)]
    (head,) = await take(journals)
    await do(journals, outbox.later(head, 500, "", 60.0))
    assert await do(journals, outbox.any_due("hooks")) is False
    await journals.pass_time(TABLE, 61, "due_at")
    (head,) = await take(journals)
    await do(journals, outbox.give_up(head, 500, ""))
    # A dead one that is delivered again goes before those that came later, whether they are blocked or not.
    assert await do(journals, outbox.replay(made[0])) is True
    for expected in made:
        assert await do(journals, outbox.any_due("hooks")) is True
        (head,) = await take(journals)
        assert head.message.id == expected
        assert await do(journals, outbox.any_due("hooks")) is (expected == made[0])
        await do(journals, outbox.delivered(head, 200))
    assert await do(journals, outbox.any_due("hooks")) is False


async def test_one_that_comes_while_the_one_before_it_ends_does_not_wait_for_ever(journals: Journals) -> None:
    for name in "ab":
        await journals.replica(name)
    for _ in range(20):
        await put(journals, key="k")
        (head,) = await take(journals)
        end = (await journals.replica("b")).transact(outbox.delivered(head, 200))
        made, _ = await asyncio.gather(put(journals, key="k"), end)
        (head,) = await take(journals)
        assert head.message.id == made
        await do(journals, outbox.delivered(head, 200))


async def test_the_order_of_a_key_survives_a_clock_that_was_set_back(journals: Journals) -> None:
    first = await put(journals, key="k")
    await journals.pass_time(TABLE, -3600, "created_at")
    rest = [await put(journals, key="k", by="ab"[number % 2]) for number in range(3)]
    for expected in (first, *rest):
        (head,) = await take(journals)
        assert head.message.id == expected
        await do(journals, outbox.delivered(head, 200))


async def test_what_is_counted_and_listed(journals: Journals) -> None:
    made = [await put(journals) for _ in range(5)]
    taken = {each.message.id: each for each in await take(journals, most=3)}
    assert set(taken) == set(made[:3])
    await do(journals, outbox.delivered(taken[made[0]], 200))
    await do(journals, outbox.give_up(taken[made[1]], 0, "upstream_timeout"))
    await journals.pass_time(TABLE, 100, "created_at")
    backlog = await do(journals, outbox_backlog.backlog())
    assert (backlog.pending, backlog.dead) == (3, 1)
    # Head and body of each: what the client has sent.
    assert backlog.bytes == 3 * taken[made[2]].message.kept_bytes
    assert 99 < backlog.oldest < 200
    counts = {(each.target, each.state): each.messages for each in await do(journals, outbox_backlog.counts())}
    assert counts == {
        ("hooks", "delivered"): 1,
        ("hooks", "dead"): 1,
        ("hooks", "sending"): 1,
        ("hooks", "queued"): 2,
    }
    first = await do(journals, outbox.listed("", "", "", 3))
    rest = await do(journals, outbox.listed("", "hooks", first[-1].id, 3))
    assert [each.id for each in (*first, *rest)] == sorted(made, reverse=True)
    assert [each.id for each in await do(journals, outbox.listed("dead", "", "", 9))] == [made[1]]
    assert await do(journals, outbox.listed("", "other", "", 9)) == []
    # As the runbook asks; the dead ones are not published either.
    (row,) = await journals.rows("SELECT COUNT(*) AS n, MIN(created_at) FROM outbox_events WHERE NOT published")
    assert int(row["n"]) == 4


async def test_any_due_says_no_where_nothing_can_be_claimed(journals: Journals) -> None:
    assert await do(journals, outbox.any_due("hooks")) is False
    await put(journals)
    assert await do(journals, outbox.any_due("other")) is False
    assert await do(journals, outbox.any_due("hooks")) is True
    await take(journals)
    assert await do(journals, outbox.any_due("hooks")) is False


@pytest.mark.parametrize("state", ["delivered", "dead"])
async def test_what_has_ended_is_deleted_after_its_time(journals: Journals, state: Any) -> None:
    for _ in range(4):
        await put(journals)
    taken = await take(journals, most=3)
    for each in taken:
        done = outbox.delivered(each, 200) if state == "delivered" else outbox.give_up(each, 500, "")
        await do(journals, done)
    assert await do(journals, outbox.delete_ended(state, 60.0, 10)) == 0
    await journals.pass_time(TABLE, 61, "ended_at", "created_at")
    assert await do(journals, outbox.delete_ended("dead" if state == "delivered" else "delivered", 60.0, 10)) == 0
    assert await do(journals, outbox.delete_ended(state, 60.0, 2)) == 2
    assert await do(journals, outbox.delete_ended(state, 60.0, 2)) == 1
    (left,) = await do(journals, outbox.listed("", "", "", 9))
    assert left.state == "queued"


@pytest.mark.parametrize("deliver", [{}, {"deliver": {"enabled": True}}])
async def test_messages_whose_route_is_gone_are_seen(
    journals: Journals, deliver: dict[str, object], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Also by a gateway that delivers nothing itself."""
    made = [await put(journals, target="old") for _ in range(3)]
    (taken, *_) = await take(journals, target="old", most=1)
    await do(journals, outbox.give_up(taken, 0, "upstream_timeout"))
    await put(journals, target="hooks")
    upstreams = {"a": {"endpoints": ["127.0.0.1:1"]}}
    routes = [{"name": "hooks", "prefix": "/a", "upstream": "a", **deliver}]
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump({"upstreams": upstreams, "routes": routes}))
    config = load({"GATEWAY_CONFIG": str(tmp_path / "gateway.yaml"), "JOURNAL_URL": f"sqlite:///{tmp_path}/j"}, None)
    metrics = Metrics("g", ["hooks"], ["a"], "1")
    made_of = Outbox(config, await journals.replica(), metrics)
    with caplog.at_level(logging.WARNING, "gateway.outbox"):
        await made_of.depth.look()
        await made_of.depth.look()
    gone = {"old"} if deliver else {"old", "hooks"}
    assert {(vars(record)["event"], vars(record)["target"]) for record in caplog.records} == {
        ("outbox_orphaned", each) for each in gone
    }
    assert len(caplog.records) == len(gone)
    series = metrics.snapshot()["outbox_orphaned"][3]
    assert series == {"old": 2.0, "hooks": 0.0 if deliver else 1.0}
    assert {each.target: each.orphaned for each in await made_of.view.counts() if each.state == "queued"} == {
        "old": True,
        "hooks": not deliver,
    }
    # Nothing is to be done any more for what was given up.
    shown = await made_of.view.message(made[0])
    assert shown is not None
    assert (shown.state, shown.orphaned) == ("dead", False)

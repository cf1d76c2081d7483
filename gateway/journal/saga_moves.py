"""Transitions of runs, as they are written: the run, its steps and its events, or nothing. In PostgreSQL it is one
statement, and so one round trip.

The number of its events is the version of a run: whatever an operator does to a run that is held is an event, too. So a
holder who knows that number need not lock the run before it decides. Where it is another one nothing is written, and
the holder locks the run and decides anew (`gateway.journal.sagas.move`).
"""

import base64
import json
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple

from gateway.journal.leases import HELD, Lease
from gateway.journal.port import CHANNEL, Notice, Rows, Statement, Step, Together
from gateway.journal.values import span

ENDED_TOPIC: Final = "sagas_ended"
"""A run has ended, or only an operator can go on with it."""

RunState = Literal["running", "succeeded", "compensating", "compensated", "stuck"]
StepState = Literal["pending", "running", "done", "failed", "unknown", "undoing", "undone", "undo_failed"]

# `$4` the events that it has, `$5` those that it has then, `$6` state, `$7` pause (null: its holder goes on), `$8` the
# lease of whoever goes on, `$9` deadline (null: as before), `$10` ended, `$11` due, `$12` reason (null: as before).
_MOVE: Final = (
    "UPDATE saga_runs SET events = $5, state = $6,"
    " owner = CASE WHEN CAST($7 AS DOUBLE PRECISION) IS NULL THEN owner ELSE '' END,"
    " lease_until = CASE WHEN CAST($7 AS DOUBLE PRECISION) IS NULL"
    " THEN {now} + CAST($8 AS DOUBLE PRECISION) ELSE 0 END,"
    " due_at = CASE WHEN $11 THEN {now} + coalesce(CAST($7 AS DOUBLE PRECISION), 0.0) END,"
    " deadline_at = coalesce({now} + CAST($9 AS DOUBLE PRECISION), deadline_at),"
    " ended_at = CASE WHEN $10 THEN {now} END, reason = coalesce(CAST($12 AS TEXT), reason), updated_at = {now}"
    " WHERE id = $1 AND {held} AND events = $4 RETURNING id, deadline_at - {now} AS time_left"
)
_AGAIN: Final = (
    " ON CONFLICT (run_id, position) DO UPDATE SET"
    " state = excluded.state, attempts = excluded.attempts, status = excluded.status, error = excluded.error,"
    " result = coalesce(excluded.result, saga_steps.result), updated_at = excluded.updated_at"
)
_INTO_STEPS: Final = (
    "INSERT INTO saga_steps (run_id, position, name, state, attempts, status, error, result, updated_at)"
)
_INTO_EVENTS: Final = "INSERT INTO saga_events (run_id, sequence, at, kind, step, detail)"
_STEP: Final = Statement("{into} VALUES ($1, $2, $3, $4, $5, $6, $7, $8, {now}){again}", into=_INTO_STEPS, again=_AGAIN)
_EVENT: Final = Statement("{into} VALUES ($1, $2, {now}, $3, $4, $5)", into=_INTO_EVENTS)
_MOVED: Final = Statement(_MOVE, held=HELD)
# The same with all that belongs to it. `$13` are its steps and `$14` its events, as JSON; `$15`: whoever waits for its
# end is woken.
_MOVED_AT_ONCE: Final = Statement(
    "WITH run AS ({move}),"
    " steps AS ({into_steps} SELECT run.id, made.position, made.name, made.state, made.attempts, made.status,"
    " made.error, decode(made.result, 'base64'), {now} FROM run, json_to_recordset(CAST($13 AS json)) AS made"
    " (position BIGINT, name TEXT, state TEXT, attempts BIGINT, status BIGINT, error TEXT, result TEXT){again}),"
    " told AS ({into_events} SELECT run.id, made.sequence, {now}, made.kind, made.step, made.detail"
    " FROM run, json_to_recordset(CAST($14 AS json)) AS made (sequence BIGINT, kind TEXT, step TEXT, detail TEXT))"
    " SELECT time_left, CASE WHEN $15 THEN pg_notify('{channel}', '{topic}') END FROM run",
    move=_MOVE,
    held=HELD,
    into_steps=_INTO_STEPS,
    again=_AGAIN,
    into_events=_INTO_EVENTS,
    channel=CHANNEL,
    topic=ENDED_TOPIC,
)


class StepRow(NamedTuple):
    """What is known of a step of which an attempt was made. `status` is that of the last answer, 0 for none; `error`
    says what was wrong with it."""

    position: int
    name: str
    state: StepState
    attempts: int
    status: int
    error: str
    result: bytes | None
    updated_at: float = 0.0


class Event(NamedTuple):
    """What has happened to a run. `step` is '' where it is about all of it."""

    kind: str
    step: str = ""
    detail: str = ""


class Move(NamedTuple):
    """A transition. `steps` are those that have changed. `pause` None: its holder goes on with it; else it is let go,
    and due in so many seconds. `due` False: nobody goes on with it by itself. `deadline` in seconds from now, None for
    the one of before, and so with `reason`."""

    state: RunState
    steps: tuple[StepRow, ...] = ()
    events: tuple[Event, ...] = ()
    pause: float | None = None
    due: bool = True
    ended: bool = False
    deadline: float | None = None
    reason: str | None = None


class Known(NamedTuple):
    """What the holder of a run knows of it after a transition: how many events it has, and the seconds that were left
    until its deadline. Nobody has cancelled it."""

    events: int
    left: float


def moved(lease: Lease, seconds: float, events: int, made: Move) -> Together:
    """A transition of a run that has so many events, by its holder, who has it for another `seconds` then. No row where
    somebody else has it, or has changed it: nothing was written."""
    pause = made.pause if made.due else 0.0
    count = events + len(made.events)
    arguments = (
        *(*lease.held, events, count, made.state, pause, seconds),
        *(made.deadline, made.ended, made.due, made.reason),
    )

    def whole() -> Step:
        steps, told = _json(map(_as_json, made.steps)), _json(_numbered(made, events))
        return _MOVED_AT_ONCE(*arguments, steps, told, not made.due)

    def parts() -> tuple[Step, tuple[Step | Notice, ...]]:
        steps = [_STEP(lease.key, *step[:7]) for step in made.steps]
        told = [event(str(lease.key), number, each) for number, each in enumerate(made.events, events + 1)]
        ended = () if made.due else (Notice(ENDED_TOPIC),)
        return _MOVED(*arguments), (*steps, *told, *ended)

    return Together(whole, parts)


def known(rows: Rows, events: int, made: Move) -> Known | None:
    """What `moved` with these arguments has come to; None where nothing was written."""
    return Known(events + len(made.events), span(rows[0]["time_left"])) if rows else None


def event(run_id: str, number: int, each: Event) -> Step:
    """Write an event of a run."""
    return _EVENT(run_id, number, *each)


def _numbered(made: Move, events: int) -> Iterator[dict[str, object]]:
    for number, each in enumerate(made.events, events + 1):
        yield {"sequence": number, **each._asdict()}


def _as_json(step: StepRow) -> dict[str, object]:
    result = None if step.result is None else base64.b64encode(step.result).decode()
    return {**step._asdict(), "result": result}


def _json(values: Iterable[dict[str, object]]) -> str:
    return json.dumps(list(values))

"""Runs of workflows: what has been done of each, and who works on it.

A transition compares owner and fence, renews the lease, and writes the run, its steps and its events, or nothing
(`gateway.journal.saga_moves`). What it writes is decided by `decide`, a pure function that is told what only the
journal knows: whether somebody has cancelled the run, and how much time is left (`Locked`).

    claim ──▶ move ──▶ (send) ──▶ move ──▶ … ──▶ ended, or let go until `due_at`
                 └── no row of the holder's any more: somebody else has taken the run

Operators change a run that nobody holds (`ordered`); to one that is held they can only say that it is cancelled
(`cancelled`).
"""

import json
from collections.abc import Callable, Iterable
from typing import Final, Literal, NamedTuple, get_args

from gateway.journal.leases import HELD, NEXT_FENCE, Lease, Leased
from gateway.journal.port import Notice, Operation, Row, Statement
from gateway.journal.saga_moves import Event, Known, Move, RunState, StepRow, StepState, event, known, moved
from gateway.journal.values import (
    content,
    count,
    in_state,
    instant,
    instant_or_none,
    known_state,
    position,
    span,
    span_or_none,
    state,
    text,
)

_STATES: Final[tuple[str, ...]] = get_args(RunState)
_STEP_STATES: Final[tuple[str, ...]] = get_args(StepState)

TOPIC: Final = "sagas"
"""There may be a run to go on with."""
_LEASED: Final = Leased("saga_runs", "id", "due_at IS NOT NULL AND due_at <= {now}", "due_at, id")
_INSERT: Final = Statement(
    "INSERT INTO saga_runs (id, workflow, state, definition, input, headers, correlation_id, owner, fence, lease_until,"
    " due_at, deadline_at, created_at, updated_at)"
    " VALUES ($1, $2, 'running', $3, $4, $5, $6, $7, 1, {now} + $8, {now}, {now} + $9, {now}, {now})"
)
_ANY_DUE: Final = Statement("SELECT id FROM saga_runs WHERE due_at <= {now} AND lease_until <= {now} LIMIT 1")
# How many events it has, as it is compared when it moves. A number that somebody has damaged is mended by its events.
_EVENTS_OF: Final = (
    "CASE WHEN events BETWEEN 0 AND 9007199254740991 AND CAST(events AS BIGINT) = events THEN events"
    " ELSE (SELECT coalesce(max(sequence), 0) FROM saga_events"
    " WHERE run_id = saga_runs.id AND sequence BETWEEN 0 AND 9007199254740991) END"
)
_LOCK: Final = Statement(
    "UPDATE saga_runs SET lease_until = {now} + $4, events = {events_of} WHERE id = $1 AND {held}"
    " RETURNING cancelled, deadline_at - {now} AS time_left, events",
    events_of=_EVENTS_OF,
    held=HELD,
)
_PUT_OFF: Final = Statement(
    "UPDATE saga_runs SET owner = '', lease_until = 0, due_at = {now} + $4 WHERE id = $1 AND {held} RETURNING id",
    held=HELD,
)
# Until the commit nobody takes the run, and nobody lets it go. Where its lease has ended, whoever held it is late.
_LOCK_FOR_ORDER: Final = Statement(
    "UPDATE saga_runs SET fence = CASE WHEN lease_until <= {now} THEN {next_fence} ELSE fence END,"
    " events = {events_of} WHERE id = $1 RETURNING lease_until > {now} AS held, owner, fence, events",
    events_of=_EVENTS_OF,
    next_fence=NEXT_FENCE,
)
_CANCEL: Final = Statement("UPDATE saga_runs SET cancelled = TRUE, reason = $2, events = $3 WHERE id = $1")
_STEPS: Final = Statement(
    "SELECT position, name, state, attempts, status, error, result, updated_at FROM saga_steps WHERE run_id = $1"
    " ORDER BY position"
)
_EVENTS: Final = Statement(
    "SELECT at, kind, step, detail FROM saga_events WHERE run_id = $1 ORDER BY sequence DESC LIMIT $2"
)
_COLUMNS: Final = (
    "id, workflow, state, cancelled, reason, correlation_id, created_at, updated_at, ended_at,"
    " due_at - {now} AS due_in, deadline_at - {now} AS time_left, lease_until > {now} AS held"
)
_SHOW: Final = Statement(f"SELECT {_COLUMNS}, definition, input FROM saga_runs WHERE id = $1")  # noqa: S608 - our names
# Without what is large: a page of a thousand inputs would be as large as the limits of their workflows allow.
_LIST: Final = Statement(
    f"SELECT {_COLUMNS} FROM saga_runs WHERE {in_state('state', _STATES)} AND ($2 = '' OR workflow = $2)"  # noqa: S608
    " AND ($3 = '' OR id < $3) ORDER BY id DESC LIMIT $4"
)
_WAITED_FOR: Final = Statement(
    "SELECT id FROM saga_runs WHERE id IN (SELECT value FROM json_each($1)) AND due_at IS NULL",
    "SELECT id FROM saga_runs WHERE id IN (SELECT json_array_elements_text(CAST($1 AS json))) AND due_at IS NULL",
)
_OPEN: Final = Statement(
    "SELECT workflow, {known_state} AS now_state, count(*) AS runs, {now} - min(created_at) AS oldest FROM saga_runs"
    " WHERE ended_at IS NULL GROUP BY 1, 2 ORDER BY 1, 2",
    known_state=known_state("state", _STATES),
)
_DELETE: Final = Statement(
    "DELETE FROM saga_runs WHERE id IN (SELECT id FROM saga_runs WHERE ended_at <= {now} - $1 ORDER BY ended_at"
    " LIMIT $2 {skip_locked}) RETURNING id"
)


class NewRun(NamedTuple):
    """A run that is to begin. `definition` is its workflow, `input` JSON, `headers` complete header lines. `deadline`
    in seconds from now."""

    id: str
    workflow: str
    definition: bytes
    input: bytes
    headers: bytes
    correlation_id: str
    deadline: float


class Taken(NamedTuple):
    """A run that this process holds, with the rows of its steps. `begun`: its next attempt is written already, and
    this is known of it since."""

    run: NewRun
    state: RunState
    steps: tuple[StepRow, ...]
    lease: Lease
    begun: bool = False
    known: Known | None = None


class Locked(NamedTuple):
    """What the journal knows when a transition is decided: whether somebody has cancelled the run, and the seconds
    until its deadline, negative behind it."""

    cancelled: bool
    left: float


class Moved(NamedTuple):
    """A transition that is written, and what is known of the run then; None where somebody has cancelled it."""

    move: Move
    known: Known | None


class RunRow(NamedTuple):
    """A run as operators see it. Instants in seconds since the epoch; `due_in` and `left` in seconds from now. `held`
    says that a gateway works on it."""

    id: str
    workflow: str
    state: RunState
    cancelled: bool
    reason: str
    correlation_id: str
    created_at: float
    updated_at: float
    ended_at: float | None
    due_in: float | None
    left: float
    held: bool


class Happened(NamedTuple):
    """An event with its time, in seconds since the epoch."""

    at: float
    kind: str
    step: str
    detail: str


class Shown(NamedTuple):
    """A run with its steps and its latest events, the oldest of them first; `definition` and `input` as in NewRun."""

    run: RunRow
    steps: tuple[StepRow, ...]
    events: tuple[Happened, ...]
    definition: bytes
    input: bytes


Ordered = Literal["done", "held", "refused", "gone"]
"""What became of an operator's order: it is written; somebody works on the run; the run is not in a state for it; there
is no such run, or no longer."""


class Count(NamedTuple):
    """The runs of one workflow in one state that have not ended. `oldest` is the age of the oldest, in seconds."""

    workflow: str
    state: RunState
    runs: int
    oldest: float


class OpenRuns(NamedTuple):
    """All runs that have not ended."""

    counts: tuple[Count, ...] = ()

    @property
    def pending(self) -> int:
        """How many those are, the stuck ones included."""
        return sum(each.runs for each in self.counts)

    @property
    def bytes(self) -> int:
        """None are counted."""
        return 0

    @property
    def oldest(self) -> float:
        """The age of the oldest that is not stuck, in seconds; 0 where there is none."""
        return max((each.oldest for each in self.counts if each.state != "stuck"), default=0.0)


def start(run: NewRun, first: Move, lease: Lease | None, seconds: float) -> Operation[None]:
    """Keep a new run. With a `lease` its holder has it for so many `seconds`; without one whoever is free takes it."""
    owner, held = (lease.owner, seconds) if lease is not None else ("", 0.0)
    yield _INSERT(*run[:6], owner, held, run.deadline)
    yield moved(Lease(run.id, owner, 1), held, 0, first)
    if lease is None:
        yield Notice(TOPIC)


def any_due() -> Operation[bool]:
    """Whether there may be something to claim. Changes nothing, so it costs less than a claim."""
    return bool((yield _ANY_DUE()))


def claim(owner: str, seconds: float, most: int) -> Operation[list[Taken]]:
    """Take up to `most` runs that are due and that nobody holds, the longest due first."""
    rows = yield from _LEASED.claim(owner, seconds, most)
    found = []
    for row in sorted(rows, key=lambda row: (instant(row["due_at"]), text(row["id"]))):
        steps = yield _STEPS(row["id"])
        run = NewRun(
            text(row["id"]), text(row["workflow"]), content(row["definition"]) or b"", content(row["input"]) or b"",
            content(row["headers"]) or b"", text(row["correlation_id"]), 0.0,
        )  # fmt: skip
        found.append(Taken(run, state(row["state"], _STATES), tuple(map(_step_row, steps)), _LEASED.lease(row)))
    return found


def let_go(lease: Lease) -> Operation[bool]:
    """Whoever wants it may take it at once. False: somebody else has it."""
    return (yield from _LEASED.let_go(lease))


def put_off(lease: Lease, seconds: float) -> Operation[bool]:
    """Nothing was done, and whoever wants it may take it in so many seconds. False: somebody else has it."""
    return bool((yield _PUT_OFF(*lease.held, seconds)))


def renew(lease: Lease, seconds: float) -> Operation[bool]:
    """Hold it for another `seconds`. False: somebody else has it."""
    return (yield from _LEASED.renew(lease, seconds))


def move(lease: Lease, seconds: float, decide: Callable[[Locked], Move]) -> Operation[Moved | None]:
    """A transition by the holder, who has the run for another `seconds` then. None: somebody else has it, and nothing
    was written."""
    rows = yield _LOCK(*lease.held, seconds)
    if not rows:
        return None
    locked, events = Locked(bool(rows[0]["cancelled"]), span(rows[0]["time_left"])), count(rows[0]["events"])
    made = decide(locked)
    rows = yield moved(lease, seconds, events, made)
    if not rows:
        return None
    return Moved(made, None if locked.cancelled else known(rows, events, made))


def ordered(run_id: str, decide: Callable[[Shown], Move | None]) -> Operation[Ordered]:
    """A transition by an operator, of a run that nobody works on. Where `decide` returns None it is refused. Nothing
    has changed unless it is done."""
    rows = yield _LOCK_FOR_ORDER(run_id)
    if not rows:
        return "gone"
    return "held" if rows[0]["held"] else (yield from _decided(run_id, rows[0], decide))


def cancelled(
    run_id: str, reason: str, decide: Callable[[Shown], Move | None], may: Callable[[Shown], bool]
) -> Operation[Ordered]:
    """As `ordered`. Whoever works on the run is told that it is cancelled, if it may be."""
    rows = yield _LOCK_FOR_ORDER(run_id)
    if not rows:
        return "gone"
    number = count(rows[0]["events"])
    if not rows[0]["held"]:
        return (yield from _decided(run_id, rows[0], decide))
    shown = yield from show(run_id, 0)
    if shown is None or not may(shown):
        return "refused"
    yield _CANCEL(run_id, reason, number + 1)
    yield event(run_id, number + 1, Event("operator_cancel", "", reason))
    return "done"


def show(run_id: str, most_events: int) -> Operation[Shown | None]:
    """One run, with so many of its latest events; None where there is none."""
    rows = yield _SHOW(run_id)
    if not rows:
        return None
    steps = yield _STEPS(run_id)
    events = yield _EVENTS(run_id, most_events)
    happened = [
        Happened(instant(row["at"]), text(row["kind"]), text(row["step"]), text(row["detail"])) for row in events
    ]
    row = rows[0]
    rest = content(row["definition"]) or b"", content(row["input"]) or b""
    return Shown(_run_row(row), tuple(map(_step_row, steps)), tuple(reversed(happened)), *rest)


def listed(state: str, workflow: str, before: str, most: int) -> Operation[list[RunRow]]:
    """Up to `most` runs, the newest first. '' for all states, all workflows, or from the newest on."""
    return [_run_row(row) for row in (yield _LIST(state, workflow, before, most))]


def open_runs() -> Operation[OpenRuns]:
    """Those that have not ended, counted."""
    rows = yield _OPEN()
    return OpenRuns(
        tuple(
            Count(text(row["workflow"]), state(row["now_state"], _STATES), count(row["runs"]), instant(row["oldest"]))
            for row in rows
        )
    )


def ended(run_ids: Iterable[str]) -> Operation[list[Shown]]:
    """Those of these runs with which nobody goes on. The others, however many, cost one statement."""
    found = []
    for row in (yield _WAITED_FOR(json.dumps(list(run_ids)))):
        shown = yield from show(row["id"], 0)
        if shown is not None and shown.run.due_in is None:
            found.append(shown)
    return found


def delete_ended(seconds: float, most: int) -> Operation[int]:
    """Delete up to `most` runs that ended so long ago, with their steps and events; how many those were."""
    return len((yield _DELETE(seconds, most)))


def _decided(run_id: str, locked: Row, decide: Callable[[Shown], Move | None]) -> Operation[Ordered]:
    shown = yield from show(run_id, 0)
    made = None if shown is None else decide(shown)
    if made is None:
        return "refused"
    rows = yield moved(Lease(run_id, locked["owner"], locked["fence"]), 0.0, count(locked["events"]), made)
    if not rows:
        return "held"
    yield Notice(TOPIC)
    return "done"


def _step_row(row: Row) -> StepRow:
    return StepRow(
        position(row["position"]), text(row["name"]), state(row["state"], _STEP_STATES), count(row["attempts"]),
        count(row["status"]), text(row["error"]), content(row["result"]), instant(row["updated_at"]),
    )  # fmt: skip


def _run_row(row: Row) -> RunRow:
    return RunRow(
        text(row["id"]), text(row["workflow"]), state(row["state"], _STATES), bool(row["cancelled"]),
        text(row["reason"]), text(row["correlation_id"]), instant(row["created_at"]), instant(row["updated_at"]),
        instant_or_none(row["ended_at"]), span_or_none(row["due_in"]), span(row["time_left"]), bool(row["held"]),
    )  # fmt: skip

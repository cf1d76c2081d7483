"""Messages of the outbox: what is to reach its target at least once.

               claim                   delivered
    queued ─────────────▶ (sending) ───────────────▶ delivered
      ▲ ▲                   │   │        give_up
      │ └───────────────────┘   └──────────────────▶ dead
      │      later, let_go                             │
      └────────────────────────────────────────────────┘
                          replay

A message that somebody holds is `sending`; that follows from its lease and is stored nowhere, so one whose holder has
died is queued again when the lease ends. Every write of a holder compares owner and fence (`gateway.journal.leases`).

Of the messages with one `order_key` one is under way at a time: a message is due only while no earlier one with its key
is pending, and none is being sent. Earlier is what the journal's clock says, which all gateways share; where that was
set back, a message comes just after the last one of its key.

Those that wait behind another one of their key are `blocked`, so that whoever looks for work does not meet them,
however many they are. The end of a message unblocks the next one. For that, keeping and ending messages of one key go
one after the other. The first pending message of a key is never blocked; others may be unblocked, too, after a replay.
"""

from typing import Final, Literal, NamedTuple, get_args

from gateway.journal.leases import HELD, NEXT_FENCE, Lease, Leased
from gateway.journal.port import Notice, Operation, Row, Rows, Statement, Step
from gateway.journal.values import (
    content,
    count,
    in_state,
    instant,
    instant_or_none,
    span_or_none,
    state,
    text,
)

State = Literal["queued", "sending", "delivered", "dead"]
STATES: Final[tuple[str, ...]] = get_args(State)
STATE_NOW: Final = "CASE WHEN due_at IS NOT NULL AND lease_until > {now} THEN 'sending' ELSE state END"
"""In SQL: the state of a message, whether it is being sent included."""

# One that somebody has set too high by hand stays there, and has the message given up.
_ATTEMPTS: Final = "CASE WHEN attempts < 1000000000 THEN attempts + 1 ELSE 1000000000 END"
_DUE: Final = (
    "target = $4 AND due_at IS NOT NULL AND NOT blocked AND due_at <= {now}"
    " AND NOT EXISTS (SELECT 1 FROM outbox_events AS other WHERE other.order_key = outbox_events.order_key"
    " AND other.due_at IS NOT NULL"
    " AND (other.created_at, other.id) < (outbox_events.created_at, outbox_events.id))"
    " AND NOT EXISTS (SELECT 1 FROM outbox_events AS other WHERE other.order_key = outbox_events.order_key"
    " AND other.owner <> '' AND other.lease_until > {now} AND other.id <> outbox_events.id)"
)
_LEASED: Final = Leased("outbox_events", "id", _DUE, "due_at, id")
_COLUMNS: Final = (
    f"id, target, {STATE_NOW} AS now_state, attempts, status, error, size, correlation_id, created_at, ended_at,"
    " due_at - {now} AS due_in"
)
_INSERT_TEXT: Final = (
    "INSERT INTO outbox_events (id, target, state, order_key, method, path, headers, body, size, correlation_id,"
    " due_at, created_at, blocked) VALUES ($1, $2, 'queued', $3, $4, $5, $6, $7, $8, $9, {now}, {created}, {blocked})"
)
_INSERT: Final = Statement(_INSERT_TEXT, created="{now}", blocked="FALSE")
_OF_KEY: Final = "FROM outbox_events WHERE order_key = $3 AND due_at IS NOT NULL"
_INSERT_IN_ORDER: Final = Statement(
    _INSERT_TEXT,
    created="coalesce((SELECT CASE WHEN created_at < {now} THEN {now} ELSE created_at + 0.000001 END {of_key}"
    " ORDER BY created_at DESC, id DESC LIMIT 1), {now})",
    blocked="EXISTS (SELECT 1 {of_key})",
    of_key=_OF_KEY,
)
# Until the commit, nobody else keeps or ends a message of this key. SQLite has locked the whole file already.
_ALONE: Final = Statement("SELECT $1 AS alone", "SELECT pg_advisory_xact_lock(7164312, hashtext($1))")
_UNBLOCK_NEXT: Final = Statement(
    "UPDATE outbox_events SET blocked = FALSE WHERE id = (SELECT id FROM outbox_events WHERE order_key = $1"
    " AND due_at IS NOT NULL ORDER BY created_at, id LIMIT 1)"
)
_ANY_DUE: Final = Statement(
    "SELECT id FROM outbox_events WHERE target = $1 AND due_at IS NOT NULL AND NOT blocked AND due_at <= {now}"
    " AND lease_until <= {now} LIMIT 1"
)
_DELIVERED: Final = Statement(
    "UPDATE outbox_events SET state = 'delivered', published = TRUE, owner = '', lease_until = 0, due_at = NULL,"
    " attempts = {attempts}, status = $4, error = '', ended_at = {now} WHERE id = $1 AND {held} RETURNING id",
    held=HELD,
    attempts=_ATTEMPTS,
)
_LATER: Final = Statement(
    "UPDATE outbox_events SET owner = '', lease_until = 0, due_at = {now} + $6, attempts = {attempts}, status = $4,"
    " error = $5 WHERE id = $1 AND {held} RETURNING id",
    held=HELD,
    attempts=_ATTEMPTS,
)
_GIVE_UP: Final = Statement(
    "UPDATE outbox_events SET state = 'dead', owner = '', lease_until = 0, due_at = NULL, attempts = {attempts},"
    " status = $4, error = $5, ended_at = {now} WHERE id = $1 AND {held} RETURNING id",
    held=HELD,
    attempts=_ATTEMPTS,
)
_AGAIN: Final = (
    f"state = 'queued', published = FALSE, owner = '', lease_until = 0, fence = {NEXT_FENCE}, attempts = 0,"
    " due_at = {now}, ended_at = NULL, blocked = FALSE"
)
_REPLAY: Final = Statement(
    "UPDATE outbox_events SET {again} WHERE id = $1 AND lease_until <= {now} RETURNING target", again=_AGAIN
)
_REPLAY_RANGE: Final = Statement(
    "UPDATE outbox_events SET {again} WHERE id IN (SELECT id FROM outbox_events WHERE state = $1 AND due_at IS NULL"
    " AND ($2 = '' OR target = $2) AND (created_at, id) > ($3, $4) AND created_at < $5 ORDER BY created_at, id LIMIT $6"
    " {skip_locked}) RETURNING target, created_at, id",
    again=_AGAIN,
)
_SHOW: Final = Statement(f"SELECT {_COLUMNS} FROM outbox_events WHERE id = $1")  # noqa: S608 - names of this file
_LIST: Final = Statement(
    f"SELECT * FROM (SELECT {_COLUMNS} FROM outbox_events) AS found"  # noqa: S608 - names of this file
    f" WHERE {in_state('now_state', STATES)} AND ($2 = '' OR target = $2) AND ($3 = '' OR id < $3)"
    " ORDER BY id DESC LIMIT $4"
)
_DAMAGED: Final = "the record is damaged: its method, path, headers or body are of another type"
_DELETE: Final = Statement(
    "DELETE FROM outbox_events WHERE id IN"
    " (SELECT id FROM outbox_events WHERE state = $2 AND ended_at IS NOT NULL AND ended_at <= {now} - $1"
    " ORDER BY ended_at LIMIT $3 {skip_locked}) RETURNING id"
)


class Message(NamedTuple):
    """What is to be delivered. `target` is a route. `path` is what comes behind the upstream's `base_path`; `headers`
    are complete header lines. Messages with the same `order_key` go one after the other."""

    id: str
    target: str
    order_key: str | None
    method: str
    path: bytes
    headers: bytes
    body: bytes
    correlation_id: str

    @property
    def kept_bytes(self) -> int:
        """How many of it count for the limit of the outbox."""
        return len(self.path) + len(self.headers) + len(self.body)


class Taken(NamedTuple):
    """A message that this process holds. `attempts` were made before."""

    message: Message
    lease: Lease
    attempts: int


class Shown(NamedTuple):
    """A message as operators see it. `status` is that of the last answer, 0 for none; `error` says what was wrong with
    it. Instants are in seconds since the epoch; `due_in` says when the next attempt may begin, in seconds from now."""

    id: str
    target: str
    state: State
    attempts: int
    status: int
    error: str
    size: int
    correlation_id: str
    created_at: float
    ended_at: float | None
    due_in: float | None


Place = tuple[float, str]
"""Where a message stands among all: when it came, and its id."""


class Replayed(NamedTuple):
    """How many messages are delivered again, and the place of the last of them, None for none."""

    messages: int
    last: Place | None


def topic(target: str) -> str:
    """Whoever delivers to this target may have something to do."""
    return f"outbox:{target}"


def insert(message: Message) -> Operation[None]:
    """Keep a message, and wake whoever delivers."""
    arguments = (*message[:7], len(message.body), message.correlation_id)
    if message.order_key is None:
        yield _INSERT(*arguments)
    else:
        yield _ALONE(message.order_key)
        yield _INSERT_IN_ORDER(*arguments)
    yield Notice(topic(message.target))


def any_due(target: str) -> Operation[bool]:
    """Whether there may be something to claim. Changes nothing, so it costs less than a claim."""
    return bool((yield _ANY_DUE(target)))


def claim(target: str, owner: str, seconds: float, most: int) -> Operation[list[Taken]]:
    """Take up to `most` messages for a target that are due, the longest due first. Of those with one order key it takes
    one. A damaged one is given up."""
    rows = yield from _LEASED.claim(owner, seconds, most, target)
    found = []
    for row in sorted(rows, key=lambda row: (instant(row["due_at"]), text(row["id"]))):
        taken = _taken(row)
        if _is_whole(row):
            found.append(taken)
        else:
            yield from give_up(taken, 0, _DAMAGED)
    return found


def let_go(lease: Lease) -> Operation[bool]:
    """Nothing was sent: whoever wants it may take it at once, and no attempt was spent. False: somebody else has it."""
    return (yield from _LEASED.let_go(lease))


def delivered(taken: Taken, status: int) -> Operation[bool]:
    """It was taken by its target. False: somebody else has it."""
    return (yield from _ended(taken, _DELIVERED(*taken.lease.held, status)))


def later(taken: Taken, status: int, error: str, seconds: float) -> Operation[bool]:
    """An attempt has failed; the next one begins in so many seconds. False: somebody else has it."""
    return bool((yield _LATER(*taken.lease.held, status, error, seconds)))


def give_up(taken: Taken, status: int, error: str) -> Operation[bool]:
    """The last attempt has failed. False: somebody else has it."""
    return (yield from _ended(taken, _GIVE_UP(*taken.lease.held, status, error)))


def replay(message_id: str) -> Operation[bool]:
    """Deliver a message again, with all its attempts, whatever has become of it; at once if it is waiting for the next
    one. False: there is none, or it is being sent."""
    rows = yield _REPLAY(message_id)
    for row in rows:
        yield Notice(topic(text(row["target"])))
    return bool(rows)


def replay_range(
    state: Literal["delivered", "dead"], target: str, after: Place, until: float, most: int
) -> Operation[Replayed]:
    """Deliver up to `most` messages again that stand behind `after` and came before `until`, the oldest first. `target`
    '' for all. Whoever goes on behind the last one meets none twice, although it may have ended again meanwhile."""
    rows = yield _REPLAY_RANGE(state, target, *after, until, most)
    for each in sorted({text(row["target"]) for row in rows}):
        yield Notice(topic(each))
    return Replayed(len(rows), max(((instant(row["created_at"]), text(row["id"])) for row in rows), default=None))


def show(message_id: str) -> Operation[Shown | None]:
    """One message."""
    rows = yield _SHOW(message_id)
    return _shown(rows[0]) if rows else None


def listed(state: str, target: str, before: str, most: int) -> Operation[list[Shown]]:
    """Up to `most` messages, the newest first. '' for all states, all targets, or from the newest on; `before` is the
    last id of the page before."""
    return [_shown(row) for row in (yield _LIST(state, target, before, most))]


def delete_ended(state: Literal["delivered", "dead"], seconds: float, most: int) -> Operation[int]:
    """Delete up to `most` messages that ended so long ago; how many those were."""
    return len((yield _DELETE(seconds, state, most)))


def _ended(taken: Taken, step: Step) -> Operation[bool]:
    """Nothing more is done for this message: the next one with its order key may go."""
    key = taken.message.order_key
    if key is None:
        return bool((yield step))
    yield _ALONE(key)
    rows: Rows = yield step
    if rows:
        yield _UNBLOCK_NEXT(key)
        yield Notice(topic(taken.message.target))
    return bool(rows)


def _is_whole(row: Row) -> bool:
    """Whether it can be sent, and what came of it be written: nobody has written anything else in the place of its
    content, or an id that is no text."""
    parts = (row["path"], row["headers"], row["body"])
    named = isinstance(row["id"], str) and row["id"].isascii()
    return named and isinstance(row["method"], str) and all(content(part) is not None for part in parts)


def _taken(row: Row) -> Taken:
    message = Message(
        text(row["id"]), text(row["target"]), row["order_key"], text(row["method"]), content(row["path"]) or b"",
        content(row["headers"]) or b"", content(row["body"]) or b"", text(row["correlation_id"]),
    )  # fmt: skip
    return Taken(message, _LEASED.lease(row), count(row["attempts"]))


def _shown(row: Row) -> Shown:
    return Shown(
        text(row["id"]), text(row["target"]), state(row["now_state"], STATES), count(row["attempts"]),
        count(row["status"]), text(row["error"]), count(row["size"]), text(row["correlation_id"]),
        instant(row["created_at"]), instant_or_none(row["ended_at"]), span_or_none(row["due_in"]),
    )  # fmt: skip

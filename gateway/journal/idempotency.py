"""Idempotency records: who runs the request of a key, and what its answer was.

                claim                    finish
    (nothing) ─────────▶ running ───────────────────▶ finished   the answer, or its status alone
                          │   │  unknown
               release    │   └─────────────────────▶ unknown    it may have happened
              (nothing) ◀─┘

A running record whose lease has ended counts as unknown: its holder has died, or was stopped. Where the next request
may run then (`retry`), it takes the record with a new owner and fence. Every ending compares owner and fence, so the
one who held it before changes nothing. When its time is over (`expires_at`), a record counts as if it were not there;
its time begins anew when its request ends.
"""

from typing import Final, Literal, NamedTuple, get_args

from gateway.journal.leases import HELD, NEXT_FENCE
from gateway.journal.port import Operation, Row, Rows, Statement, Step
from gateway.journal.values import SIZE, count, instant, state, text

State = Literal["running", "finished", "unknown"]

# What is over although nobody has deleted it yet: its time has passed, and nobody runs it.
_OVER: Final = "expires_at <= {now} AND NOT (state = 'running' AND lease_until > {now})"

# From its end: a request may last longer than its key is to be known.
_KNOWN: Final = "expires_at = {now} + (expires_at - created_at)"

_CLAIM: Final = Statement(
    "INSERT INTO idempotency_records AS r"
    " (id, route, state, owner, fence, lease_until, created_at, expires_at)"
    " VALUES ($1, $2, 'running', $3, 1, {now} + $4, {now}, {now} + $5)"
    " ON CONFLICT (id) DO UPDATE SET route = excluded.route, state = 'running', owner = excluded.owner,"
    " fence = {next_fence}, lease_until = excluded.lease_until, content = NULL, status = 0, whole = FALSE,"
    " head = NULL, body = NULL, size = 0, created_at = excluded.created_at, expires_at = excluded.expires_at"
    " WHERE (r.expires_at <= {now} AND NOT (r.state = 'running' AND r.lease_until > {now}))"
    " OR ($6 AND (r.state = 'unknown' OR (r.state = 'running' AND r.lease_until <= {now})))"
    " RETURNING fence",
    next_fence=NEXT_FENCE.replace("fence", "r.fence"),
)
_LOOK: Final = Statement(
    "SELECT state, content, status, whole, head, body, lease_until - {now} AS lease_left"
    " FROM idempotency_records WHERE id = $1 AND NOT ({over})",
    over=_OVER,
)
_FINISH: Final = Statement(
    "UPDATE idempotency_records SET state = 'finished', lease_until = 0, content = $4, status = $5, whole = $6,"
    " head = $7, body = $8, size = $9, {known} WHERE id = $1 AND {held} AND state = 'running' RETURNING fence",
    held=HELD,
    known=_KNOWN,
)
_UNKNOWN: Final = Statement(
    "UPDATE idempotency_records SET state = 'unknown', lease_until = 0, {known}"
    " WHERE id = $1 AND {held} AND state = 'running' RETURNING fence",
    held=HELD,
    known=_KNOWN,
)
_RELEASE: Final = Statement(
    "DELETE FROM idempotency_records WHERE id = $1 AND {held} AND state = 'running' RETURNING fence",
    held=HELD,
)
_RELEASE_OWN: Final = Statement(
    "DELETE FROM idempotency_records WHERE id = $1 AND owner = $2 AND state = 'running' RETURNING fence"
)
_RENEW: Final = Statement(
    "UPDATE idempotency_records SET lease_until = {now} + $4"
    " WHERE id = $1 AND {held} AND state = 'running' RETURNING fence",
    held=HELD,
)
_DELETE_OVER: Final = Statement(
    "DELETE FROM idempotency_records WHERE id IN"
    " (SELECT id FROM idempotency_records WHERE {over} ORDER BY expires_at LIMIT $1 {skip_locked})"
    " RETURNING id",
    over=_OVER,
)
# One statement, so that all is counted at one time. Both sums grow along the way: the first record that has reached
# both excesses is the last one that has to go.
_LAST_OF_EXCESS: Final = Statement(
    "WITH excess AS (SELECT count(*) - $1 AS records, CAST(coalesce(sum({size}), 0) AS BIGINT) - $2 AS bytes"
    " FROM idempotency_records),"
    " aged AS (SELECT created_at, id, row_number() OVER way AS records, sum({size}) OVER way AS bytes"
    " FROM idempotency_records WHERE state = 'finished'"
    " WINDOW way AS (ORDER BY created_at, id ROWS UNBOUNDED PRECEDING)),"
    " judged AS (SELECT created_at, id, aged.records AS records,"
    " aged.records >= excess.records AND aged.bytes >= excess.bytes AS enough"
    " FROM aged, excess WHERE excess.records > 0 OR excess.bytes > 0)"
    " SELECT created_at, id FROM judged"
    " ORDER BY enough DESC, CASE WHEN enough THEN records ELSE -records END LIMIT 1",
    size=SIZE,
)
_DELETE_OLDEST: Final = Statement(
    "DELETE FROM idempotency_records WHERE id IN (SELECT id FROM idempotency_records WHERE state = 'finished'"
    " AND (created_at, id) <= ($1, $2) ORDER BY created_at, id LIMIT $3 {skip_locked}) RETURNING size"
)
_TOTALS: Final = Statement(
    "SELECT count(*) AS records, coalesce(sum({size}), 0) AS bytes FROM idempotency_records", size=SIZE
)
_COUNTS: Final = Statement(
    "SELECT route, CASE WHEN state = 'finished' OR (state = 'running' AND lease_until > {now}) THEN state"
    " ELSE 'unknown' END AS now_state,"
    " count(*) AS records, coalesce(sum({size}), 0) AS bytes, min(created_at) AS oldest"
    " FROM idempotency_records GROUP BY 1, 2 ORDER BY 1, 2",
    size=SIZE,
)


class Found(NamedTuple):
    """A record that somebody else has. `content` is the SHA-256 of its request, None until it is known. `whole` says
    that `head` and `body` are the answer; without it only its `status` was kept. `lease_left` in seconds."""

    state: State
    content: bytes | None
    status: int
    whole: bool
    head: bytes
    body: bytes
    lease_left: float


_OUTCOME_UNKNOWN: Final = Found("unknown", None, 0, False, b"", b"", 0.0)


class Kept(NamedTuple):
    """What is kept of an answer. `content` is the SHA-256 of the request. `head` is header lines, each with its end;
    None for head and body where only the status is kept."""

    content: bytes
    status: int
    head: bytes | None
    body: bytes | None


class Count(NamedTuple):
    """The records of one route in one state. `oldest` is the time of the oldest claim, in seconds since the epoch."""

    route: str
    state: State
    records: int
    bytes: int
    oldest: float


class Totals(NamedTuple):
    """Some records, or all."""

    records: int
    bytes: int


Held = tuple[bytes, str, int]
"""Key, owner and fence of whoever holds a record."""


def claim(key: bytes, route: str, owner: str, lease: float, ttl: float, *, retry: bool) -> Step:
    """Take the record of a key for `lease` seconds; it is kept for `ttl` seconds. `retry`: also one whose outcome is
    unknown. One row with the fence, or none where somebody else has it."""
    return _CLAIM(key, route, owner, lease, ttl, retry)


def fence_of(rows: Rows) -> int | None:
    """The fence that a claim has got."""
    return int(rows[0]["fence"]) if rows else None


def look(key: bytes) -> Step:
    """The record of a key; no row where there is none."""
    return _LOOK(key)


def found(row: Row) -> Found:
    """What `look` has found. SQLite keeps anything in any column: where what is there cannot have been written here,
    the outcome is unknown."""
    state, content, status, lease_left = row["state"], row["content"], row["status"], row["lease_left"]
    head, body = row["head"] or b"", row["body"] or b""
    well = (
        state in get_args(State)
        and isinstance(content, bytes | None)
        and isinstance(status, int)
        and isinstance(lease_left, int | float)
        and isinstance(head, bytes)
        and isinstance(body, bytes)
    )
    if not well or (state == "running" and lease_left <= 0):
        return _OUTCOME_UNKNOWN
    return Found(state, content, status, bool(row["whole"]), head, body, float(lease_left))


def finish(held: Held, kept: Kept) -> Step:
    """Keep the answer. No row: somebody else holds the record."""
    whole = kept.head is not None
    size = len(kept.head or b"") + len(kept.body or b"")
    return _FINISH(*held, kept.content, kept.status, whole, kept.head, kept.body, size)


def unknown(held: Held) -> Step:
    """It is not known whether the request was acted on. No row: somebody else holds the record."""
    return _UNKNOWN(*held)


def release(held: Held) -> Step:
    """Nothing was done: as if the key had never been used. No row: somebody else holds the record."""
    return _RELEASE(*held)


def release_own(key: bytes, owner: str) -> Step:
    """As `release`, by an owner that has not been told its fence."""
    return _RELEASE_OWN(key, owner)


def renew(held: Held, lease: float) -> Step:
    """Hold it for another `lease` seconds from now. No row: somebody else holds the record."""
    return _RENEW(*held, lease)


def delete_over(most: int) -> Operation[int]:
    """Delete up to `most` records whose time is over; how many those were."""
    return len((yield _DELETE_OVER(most)))


def last_of_excess(records: int, size: int) -> Operation[tuple[float, bytes] | None]:
    """The last finished record, from the oldest on, that has to go for at most so many records to be left, and at most
    so many bytes; the last of all where that is not enough. None: no one has to go. Whoever else asks before they are
    deleted is told the same."""
    rows = yield _LAST_OF_EXCESS(records, size)
    return (float(rows[0]["created_at"]), bytes(rows[0]["id"])) if rows else None


def delete_oldest(last: tuple[float, bytes], most: int) -> Operation[Totals]:
    """Delete up to `most` finished records, the oldest first and none that came after `last`; how much that was.
    Records that are running, or whose outcome is unknown, stay."""
    rows = yield _DELETE_OLDEST(*last, most)
    return Totals(len(rows), sum(count(row["size"]) for row in rows))


def totals() -> Operation[Totals]:
    """How much there is."""
    rows = yield _TOTALS()
    return Totals(int(rows[0]["records"]), count(rows[0]["bytes"]))


def counts() -> Operation[list[Count]]:
    """The records by route and state."""
    rows = yield _COUNTS()
    return [
        Count(
            text(row["route"]),
            state(row["now_state"], get_args(State)),
            count(row["records"]),
            count(row["bytes"]),
            instant(row["oldest"]),
        )
        for row in rows
    ]

"""Leases with fence numbers: who works on a record, and until when.

A record that can be worked on has three columns:

    owner         whoever holds it now, '' for nobody; never used twice for one record
    fence         grows by one with each claim
    lease_until   when it may be taken from its owner, by the journal's clock

    claim    due and held by nobody (or lapsed)  ->  owner, fence + 1, lease_until
    renew    same owner and fence                ->  lease_until
    finish   same owner and fence                ->  whatever the capability writes, in the same statement

A holder that was stopped for longer than its lease (SIGSTOP, a long pause of the machine) may come back and write. Its
owner and fence are no longer those of the record, so its statements change no row, and it learns so from their count.
Until somebody else has taken the record, a holder may still renew or finish it after its lease has ended.
"""

from dataclasses import dataclass
from typing import Final

from gateway.journal.port import Operation, Row, Rows, Statement

HELD: Final = "owner = $2 AND fence = $3"
"""The condition of every statement of a holder (`Statement("… WHERE id = $1 AND {held}", held=HELD)`); its first
arguments are the key, the owner and the fence."""


NEXT_FENCE: Final = "CASE WHEN fence < 4611686018427387904 THEN CAST(fence AS BIGINT) + 1 ELSE 0 END"
"""In SQL: the fence after the present one. One that somebody has set too high by hand begins anew; no owner is used
twice, so that nobody takes a claim for an earlier one."""


@dataclass(frozen=True, slots=True)
class Lease:
    """`key` is that of the record."""

    key: bytes | str
    owner: str
    fence: int

    @property
    def held(self) -> tuple[bytes | str, str, int]:
        """The first three arguments of a holder's statement."""
        return (self.key, self.owner, self.fence)


class Leased:
    """The statements for a table whose records are leased. `key` is its key column. `due` says in SQL which records
    there is work on; `order` which of them come first. Both are ours, never a client's."""

    __slots__ = ("_claim", "_key", "_let_go", "_renew")

    def __init__(self, table: str, key: str, due: str, order: str) -> None:
        self._key = key
        self._claim: Final = Statement(
            # Materialized: within the UPDATE the planner might run the inner SELECT more than once, and take too many.
            "WITH due AS MATERIALIZED (SELECT {key} FROM {table} WHERE ({due}) AND lease_until <= {now}"
            " ORDER BY {order} LIMIT $3 {skip_locked})"
            " UPDATE {table} SET owner = $1, fence = {next_fence}, lease_until = {now} + $2"
            " WHERE {key} IN (SELECT {key} FROM due) RETURNING *",
            key=key,
            table=table,
            due=due,
            next_fence=NEXT_FENCE,
            order=order,
        )
        self._renew: Final = Statement(
            "UPDATE {table} SET lease_until = {now} + $4 WHERE {key} = $1 AND {held} RETURNING {key}",
            key=key,
            table=table,
            held=HELD,
        )
        self._let_go: Final = Statement(
            "UPDATE {table} SET owner = '', lease_until = 0 WHERE {key} = $1 AND {held} RETURNING {key}",
            key=key,
            table=table,
            held=HELD,
        )

    def claim(self, owner: str, seconds: float, most: int, *more: object) -> Operation[Rows]:
        """Take up to `most` records that are due and that nobody holds; their rows, as they are now, in no order. No
        two replicas get the same one. `more` are the arguments of `due`, from `$4` on."""
        return (yield self._claim(owner, seconds, most, *more))

    def lease(self, row: Row) -> Lease:
        """The lease of a row that `claim` has returned."""
        return Lease(row[self._key], row["owner"], row["fence"])

    def renew(self, lease: Lease, seconds: float) -> Operation[bool]:
        """Hold it for another `seconds` from now. False: somebody else has it."""
        return bool((yield self._renew(*lease.held, seconds)))

    def let_go(self, lease: Lease) -> Operation[bool]:
        """Whoever wants it may take it at once. False: somebody else has it."""
        return bool((yield self._let_go(*lease.held)))

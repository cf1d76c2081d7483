"""How many messages of the outbox there are, and how many are left to deliver."""

from typing import Final, NamedTuple

from gateway.journal.outbox import STATE_NOW, STATES, State
from gateway.journal.port import Operation, Statement
from gateway.journal.values import SIZE, count, instant, known_state, state, text

# Of what the client has sent, in bytes; `size` is its body alone.
_BYTES: Final = f"{SIZE} + length(path) + length(headers)"
_COUNTS: Final = Statement(
    f"SELECT target, {known_state(f'({STATE_NOW})', STATES)} AS now_state, count(*) AS messages,"  # noqa: S608 - our names
    " {now} - min(created_at) AS oldest,"
    f" sum({_BYTES}) AS bytes"
    " FROM outbox_events GROUP BY 1, 2 ORDER BY 1, 2"
)
_BACKLOG: Final = Statement(
    "SELECT target, count(due_at) AS pending,"  # noqa: S608 - names of this file
    f" coalesce(sum(CASE WHEN due_at IS NOT NULL THEN {_BYTES} END), 0) AS bytes,"
    " count(*) - count(due_at) AS dead,"
    " coalesce({now} - min(CASE WHEN due_at IS NOT NULL THEN created_at END), 0) AS oldest"
    " FROM outbox_events WHERE NOT published GROUP BY target ORDER BY target"
)


class Count(NamedTuple):
    """The messages of one target in one state. `oldest` is the age of the oldest, in seconds; `bytes` those of all."""

    target: str
    state: State
    messages: int
    oldest: float
    bytes: int


class Undelivered(NamedTuple):
    """The messages of one target: how many wait to be delivered, their bytes, the age of the oldest in seconds, and how
    many were given up."""

    target: str
    pending: int
    bytes: int
    oldest: float
    dead: int


class Backlog(NamedTuple):
    """All messages that were not delivered, by target."""

    targets: tuple[Undelivered, ...] = ()

    @property
    def pending(self) -> int:
        """How many wait to be delivered."""
        return sum(each.pending for each in self.targets)

    @property
    def bytes(self) -> int:
        """What those take."""
        return sum(each.bytes for each in self.targets)

    @property
    def oldest(self) -> float:
        """The age of the oldest of them, in seconds; 0 where none waits."""
        return max((each.oldest for each in self.targets), default=0.0)

    @property
    def dead(self) -> int:
        """How many were given up."""
        return sum(each.dead for each in self.targets)


def counts() -> Operation[list[Count]]:
    """The messages by target and state."""
    rows = yield _COUNTS()
    return [
        Count(
            text(row["target"]),
            state(row["now_state"], STATES),
            count(row["messages"]),
            instant(row["oldest"]),
            count(row["bytes"]),
        )
        for row in rows
    ]


def backlog() -> Operation[Backlog]:
    """What is left to do, and what was given up."""
    return Backlog(
        tuple(
            Undelivered(
                text(row["target"]),
                count(row["pending"]),
                count(row["bytes"]),
                instant(row["oldest"]),
                count(row["dead"]),
            )
            for row in (yield _BACKLOG())
        )
    )

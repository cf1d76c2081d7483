"""What stands in a row, whatever somebody has written into it by hand.

SQLite keeps a value of any type in a column of any type, and numbers that this gateway never writes. A row is read with
these functions, which never fail, so that a damaged one takes nothing from the others. What is read of it is shown to
operators; what depends on it is decided by whoever reads: a message without content is given up, a run whose definition
is nothing is not understood, an answer of a wrong type is not repeated.
"""

from collections.abc import Collection
from decimal import Decimal
from typing import Any, Final

DAMAGED: Final = "damaged"
"""The state that is shown of a record whose state is none."""

SIZE: Final = "CASE WHEN size BETWEEN 0 AND 1099511627776 THEN CAST(size AS BIGINT) ELSE 0 END"
"""In SQL: the column `size` where it can be one (1 TiB at most), so that no sum of them is too large for 64 bits."""

# What every reader of JSON counts up to (RFC 8259, section 6), and what a message to the supervisor can hold.
_MOST: Final = 2**53 - 1
# The last second of the year 9999, which is as far as a date can be written (RFC 3339).
_LAST: Final = 253_402_300_799.0


def count(value: object) -> int:
    """A number of things, or bytes, from 0 to 2^53 - 1; 0 for what is none. PostgreSQL adds up as a numeric."""
    return min(max(0, int(value)), _MOST) if isinstance(value, int | Decimal) else 0


def instant(value: object) -> float:
    """Seconds since the epoch, or an age, within the years 1970 to 9999; 0 for what is no number."""
    return float(min(max(0, value), _LAST)) if isinstance(value, int | float) else 0.0


def instant_or_none(value: object) -> float | None:
    """As `instant`, of a column that may be empty."""
    return None if value is None else instant(value)


def span(value: object) -> float:
    """A time from now on in seconds, negative for one that has passed; 0 for what is no number."""
    return float(min(max(-_LAST, value), _LAST)) if isinstance(value, int | float) else 0.0


def span_or_none(value: object) -> float | None:
    """As `span`, of a column that may be empty."""
    return None if value is None else span(value)


def text(value: object) -> str:
    """A text; of anything else how Python writes it, so that it is seen what stands there."""
    return value if isinstance(value, str) else repr(value)


def state(value: object, names: Collection[str]) -> Any:
    """The state of a record, one of `names`; `DAMAGED` where something else stands there."""
    return value if isinstance(value, str) and value in names else DAMAGED


def known_state(column: str, names: Collection[str]) -> str:
    """In SQL: what `state` reads in `column`."""
    return f"CASE WHEN {column} IN ({_listed(names)}) THEN {column} ELSE '{DAMAGED}' END"


def in_state(column: str, names: Collection[str]) -> str:
    """The condition that `column` has the state `$1`: '' for any, `DAMAGED` for what `state` reads so."""
    return f"($1 = '' OR {column} = $1 OR ($1 = '{DAMAGED}' AND {column} NOT IN ({_listed(names)})))"


def position(value: object) -> int:
    """The number of a step, from 0 on; -1, which no step has, for what is none."""
    return value if isinstance(value, int) and value >= 0 else -1


def content(value: object) -> bytes | None:
    """Bytes. A text, as an operator may write it, counts as its UTF-8; anything else is None."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    return bytes(value) if isinstance(value, bytes | memoryview) else None


def _listed(names: Collection[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)

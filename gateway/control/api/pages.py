"""What the lists of records in the journal have in common: pages, one record by its id, and how times are told."""

import re
from collections.abc import Awaitable, Callable, Sequence
from typing import Annotated, Any, Protocol, TypeVar

from pydantic import Field

from gateway.control.api.idempotency import available
from gateway.control.api.metrics import WHOLE
from gateway.control.api.operation import Call
from gateway.control.serving.problem import RefusalError
from gateway.telemetry.log.render import rfc3339

MOST = 1000
PageCount = Annotated[int, Field(ge=1, le=MOST, description="At most so many"), WHOLE]
OLDER = "Only older ones than this"


class Record(Protocol):
    """One of a list."""

    @property
    def id(self) -> str:
        """By which `before` knows it."""
        ...


_Record = TypeVar("_Record", bound=Record)
_Found = TypeVar("_Found")


async def page(ask: Callable[[int], Awaitable[Sequence[_Record]]], count: int) -> tuple[Sequence[_Record], str | None]:
    """Up to `count` records, and the value of `before` for the next page, None for the last one. `ask` is told how many
    to find at most."""
    found = await available(ask(count + 1))
    shown = found[:count]
    return shown, shown[-1].id if len(found) > count else None


async def one(
    call: Call[Any, Any],
    name: str,
    pattern: re.Pattern[str],
    find: Callable[[str], Awaitable[_Found | None]],
    what: str,
) -> _Found:
    """The record whose id is the part `name` of the path, a `what`. Raises `RefusalError` (404) where there is none."""
    record_id = call.request.match_info[name]
    found = await available(find(record_id)) if pattern.fullmatch(record_id) else None
    if found is None:
        raise RefusalError(404, f"There is no {what} with this id, or no longer.", reason=f"unknown_{name}")
    return found


def seconds(value: float) -> float:
    """A time that has passed or is left."""
    return round(max(0.0, value), 3)


def seconds_or_none(value: float | None) -> float | None:
    """The same, of what may not come."""
    return None if value is None else seconds(value)


def instant(at: float | None) -> str | None:
    """A point in time that may not have come yet."""
    return None if at is None else rfc3339(at)

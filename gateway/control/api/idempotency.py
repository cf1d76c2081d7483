"""Idempotency keys: how many records there are, and deleting those that are over. No key is ever told."""

from collections.abc import Awaitable
from typing import Any, TypeVar

from gateway.control.api import audit
from gateway.control.api.operation import Call, Operation
from gateway.control.models.idempotency import Idempotency, IdempotencyCleanup, IdempotencyRecords
from gateway.control.models.shapes import Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.ports.journal import IdempotencyView, JournalAway
from gateway.control.serving.problem import RefusalError
from gateway.telemetry.log.render import rfc3339

_T = TypeVar("_T")


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operations on idempotency keys. A gateway whose routes do not look at keys has none."""
    view = gateway.idempotency
    return [] if view is None else [_shown(view), _cleanup(view)]


def _shown(view: IdempotencyView) -> Operation[Any, Any]:
    async def shown(_: Call[Nothing, Nothing]) -> Idempotency:
        """The records by route and state."""
        found = await available(view.counts())
        return Idempotency(
            records=sum(each.records for each in found),
            bytes=sum(each.bytes for each in found),
            max_records=view.max_records,
            max_bytes=view.max_bytes,
            routes=[
                IdempotencyRecords(
                    route=each.route,
                    state=each.state,
                    records=each.records,
                    bytes=each.bytes,
                    oldest_time=rfc3339(each.oldest),
                )
                for each in found
            ],
        )

    return Operation(
        "GET", "/api/resilience/idempotency", "getIdempotency", "The records of idempotency keys, counted",
        Idempotency, shown, Nothing, Nothing, refusals=(503,),
    )  # fmt: skip


def _cleanup(view: IdempotencyView) -> Operation[Any, Any]:
    async def cleanup(call: Call[Nothing, Nothing]) -> IdempotencyCleanup:
        """Delete the records whose time is over."""
        removed = await available(view.clean())
        audit.record("cleanup-idempotency", call, before=None, after={"removed": removed}, scope="fleet")
        return IdempotencyCleanup(removed=removed)

    return Operation(
        "POST", "/api/admin/cleanup/idempotency", "cleanupIdempotency",
        "Delete the records of idempotency keys whose time is over",
        IdempotencyCleanup, cleanup, Nothing, Nothing, changes=True, refusals=(503,),
    )  # fmt: skip


async def available(asked: Awaitable[_T]) -> _T:
    """What was asked of the journal. Raises `RefusalError` (503) while it cannot be asked."""
    try:
        return await asked
    except JournalAway as why:
        detail = f"The journal cannot be used: {why}."
        raise RefusalError(503, detail, reason="journal_unavailable", retry_after=1.0) from why

"""The latest errors. They are not forgotten with the figures: they happened."""

from typing import Annotated, Any

from pydantic import Field

from gateway.control.api.metrics import WHOLE
from gateway.control.api.operation import Call, Operation
from gateway.control.models.errors import ErrorEntry, RecentErrors
from gateway.control.models.shapes import Input, Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.services import Services
from gateway.telemetry.log.render import rfc3339

MOST = 1000


class Which(Input):
    """Which error records are asked for."""

    count: Annotated[int, Field(ge=1, le=MOST, description="At most so many, newest first"), WHOLE] = 50
    service: Annotated[str | None, Field(description="Only those of one service, by name in any case")] = None
    client: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=64,
            description="Only those of clients with this in their name, which is an address, or the first half of one "
            "of IPv6. For operators",
        ),
    ] = None


def operations(gateway: ControlledGateway, services: Services) -> list[Operation[Any, Any]]:
    """The operation that lists the latest errors."""

    async def recent(call: Call[Which, Nothing]) -> RecentErrors:
        """The latest errors, the newest first."""
        service = None if call.query.service is None else services.named(call.query.service)
        client = call.query.client
        found = await gateway.figures.recent(call.query.count, service, client or "")
        errors = [
            ErrorEntry(
                time=rfc3339(record.time),
                request_id=record.request_id,
                correlation_id=record.correlation_id,
                service=record.service,
                category=record.category,  # type: ignore[arg-type] # checked by the model
                reason=record.reason,
                status=record.status,
                attempt=record.attempt,
                message=record.message,
                client=None if client is None else record.client,
            )
            for record in found.records
        ]
        return RecentErrors(count=len(errors), scope=found.scope, errors=errors)

    return [
        Operation(
            "GET", "/api/resilience/errors/recent", "getRecentErrors", "The latest errors and refusals",
            RecentErrors, recent, Which, Nothing, private_query=("client",), refusals=(404,),
        )
    ]  # fmt: skip

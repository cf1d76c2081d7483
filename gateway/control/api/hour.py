"""`/api/resilience/history`: how many requests each service had within the last hour, and how many of them failed."""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import Field

from gateway.control.api.operation import Call, Operation, get
from gateway.control.models.shapes import Answer, Nothing
from gateway.control.models.words import Count, Instant
from gateway.control.parts import ControlledGateway, Step
from gateway.telemetry.log.render import rfc3339
from gateway.telemetry.metrics.snapshot import labels_of

STEP = 10.0
HOUR = 3600.0


class ServiceHistory(Answer):
    """The requests on the routes of a service, by step, oldest first."""

    requests: list[Count]
    failed: Annotated[list[Count], Field(description="Of these, the ones that ended in a 5xx")]


class History(Answer):
    """The last hour, as the supervisor of this gateway has counted it."""

    end: Annotated[Instant, Field(description="Of the last step")]
    step_seconds: float
    services: dict[str, ServiceHistory]


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operation that shows the last hour."""

    async def history(_: Call[Nothing, Nothing]) -> History:
        """The last hour."""
        steps = await gateway.past()
        end = steps[-1][0] if steps else gateway.clock()
        services = {each.name: each.upstream for each in gateway.view.routes}
        names = [circuit.upstream for circuit in gateway.view.circuits]
        return History(end=rfc3339(end), step_seconds=STEP, services=by_service(names, services, steps, end))

    return [get("/api/resilience/history", "getHistory", "The last hour of every service", History, history)]


def _add(found: tuple[list[int], list[int]] | None, back: int, counts: Iterable[int], sign: int) -> None:
    for column, count in zip(found or (), counts, strict=False):
        column[-1 - back] += sign * count


def by_service(
    names: Iterable[str], services: Mapping[str, str], steps: Iterable[Step], end: float
) -> dict[str, ServiceHistory]:
    """The columns of the services with these `names`, up to the step that ends at `end`. `services` has the service of
    each route, the first one of a route with a split."""
    length = int(HOUR / STEP)
    columns = {name: ([0] * length, [0] * length) for name in names}
    for at, routes in steps:
        # 0 is the step that ends at `end`.
        back = round(max(0.0, end - at) / STEP)
        if back >= length:
            continue
        for key, counts in routes.items():
            # The part of a route with a split that went to one of its upstreams is in the count of the route, too,
            # which is that of its first one.
            route, *part = labels_of(key, ("route", "upstream"))
            first = services.get(route, "")
            _add(columns.get(first), back, counts, -1 if part else 1)
            if part:
                _add(columns.get(part[0]), back, counts, 1)
    return {
        name: ServiceHistory(requests=[max(0, each) for each in requests], failed=[max(0, each) for each in failed])
        for name, (requests, failed) in columns.items()
    }

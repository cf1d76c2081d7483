"""The resilience API: its operations, made of what they tell and command."""

from functools import partial

from aiohttp import web

from gateway.control.access import Access
from gateway.control.api import (
    alerts,
    callers,
    chaos,
    circuits,
    clients,
    configuration,
    docs_page,
    endpoints,
    errors,
    explain,
    faults,
    health,
    hour,
    idempotency,
    issuers,
    live,
    metrics,
    openapi,
    outbox,
    rehearsals,
    sagas,
    service,
    workers,
)
from gateway.control.api import routes as route_list
from gateway.control.api.operation import routes as serve
from gateway.control.live.broadcast import Broadcast
from gateway.control.parts import ControlFacts
from gateway.control.services import Services


def routes(facts: ControlFacts, access: Access, broadcast: Broadcast) -> list[web.RouteDef]:
    """Everything below `/api`, with the document that describes it and the page to read that."""
    with_figures = Services(facts.figures.services)
    with_circuits = Services(circuit.upstream for circuit in facts.view.circuits)
    about_circuits = [*circuits.operations(facts), *endpoints.operations(facts)]
    on_demand = [
        *faults.operations(facts, with_circuits),
        *chaos.operations(facts, with_circuits),
        *rehearsals.operations(facts, with_circuits),
    ]
    about_the_rest = [
        *health.operations(facts),
        *metrics.operations(facts),
        *errors.operations(facts, with_figures),
        *alerts.operations(facts),
        *explain.operations(facts),
        *workers.operations(facts),
        *service.operations(facts),
        *callers.operations(facts),
        *idempotency.operations(facts),
        *outbox.operations(facts),
        *sagas.operations(facts),
        *issuers.operations(facts),
        *live.operations(broadcast),
        *route_list.operations(facts),
        *hour.operations(facts),
        *configuration.operations(facts),
        *clients.operations(facts),
    ]
    document = partial(
        openapi.document,
        # Where there are no faults, all of theirs but the list only say so.
        [*about_the_rest, *about_circuits, *(on_demand if facts.faults is not None else on_demand[:1])],
        services=with_circuits.names,
        version=facts.view.version,
        needs_token=access.needs_token,
        guards_reading=access.guards_reading,
    )
    return [
        *serve([*about_circuits, *on_demand], access, with_circuits),
        *serve(about_the_rest, access, with_figures),
        *openapi.routes(document),
        *docs_page.routes(),
    ]

"""The endpoints of the upstreams: which there are, and taking one out of service for a while.

What is listed is this replica's view; a command goes to the whole fleet, which follows within a quarter of a second.
"""

from typing import Any, Literal

from gateway.control.api import audit
from gateway.control.api.circuits import scope
from gateway.control.api.operation import Call, Operation, get
from gateway.control.models.circuits import Release
from gateway.control.models.endpoints import Endpoint, EndpointCommand, Endpoints, TakeOut
from gateway.control.models.shapes import Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.ports.gateway import EndpointView
from gateway.control.serving.problem import RefusalError
from gateway.telemetry.log.render import rfc3339

LIST = "/api/resilience/endpoints"
PATH = "/api/resilience/upstreams/{upstream}/endpoints"


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operations on endpoints: to see them, to take one out of service, to bring it back."""

    async def listed(_: Call[Nothing, Nothing]) -> Endpoints:
        """The endpoints of all upstreams."""
        return _listed(gateway, list(gateway.view.endpoints))

    async def of_one(call: Call[Nothing, Nothing]) -> Endpoints:
        """The endpoints of one upstream."""
        return _listed(gateway, [each for each in gateway.view.endpoints if each.upstream == call.service])

    def taking_out(mode: Literal["drained", "disabled"], action: Literal["drain", "disable"]) -> Any:
        async def take_out(call: Call[Nothing, TakeOut]) -> EndpointCommand:
            """Take an endpoint out of service for a time."""
            before = _found(gateway, call)
            body = call.body
            everywhere = await gateway.endpoint_commands.take_out(
                call.service, before.endpoint, mode, body.duration, body.reason
            )
            return _done(gateway, call, action, before, everywhere, body.reason, body.duration)

        return take_out

    async def enable(call: Call[Nothing, Release]) -> EndpointCommand:
        """Bring an endpoint back into service."""
        before = _found(gateway, call)
        everywhere = await gateway.endpoint_commands.bring_back(call.service, before.endpoint)
        return _done(gateway, call, "enable", before, everywhere, call.body.reason, None)

    one = f"{PATH}/{{endpoint}}"
    drain = "No new requests to an endpoint; what is under way ends by itself"
    disable = "The same, and no health checks: the server may be switched off"
    fixed: dict[str, Any] = {"query": Nothing, "answer": EndpointCommand, "changes": True, "refusals": (404,)}
    return [
        get(LIST, "listEndpoints", "Every endpoint of every upstream", Endpoints, listed),
        get(PATH, "listEndpointsOf", "The endpoints of one upstream", Endpoints, of_one),
        Operation(
            "POST", f"{one}/drain", "drainEndpoint", drain,
            run=taking_out("drained", "drain"), body=TakeOut, body_required=True, **fixed,
        ),
        Operation(
            "POST", f"{one}/disable", "disableEndpoint", disable,
            run=taking_out("disabled", "disable"), body=TakeOut, body_required=True, **fixed,
        ),
        Operation(
            "POST", f"{one}/enable", "enableEndpoint", "Take it into service again; no effect on one that is in it",
            run=enable, body=Release, **fixed,
        ),
    ]  # fmt: skip


def _found(gateway: ControlledGateway, call: Call[Any, Any]) -> EndpointView:
    given = call.request.match_info["endpoint"].lower()
    known = [each for each in gateway.view.endpoints if each.upstream == call.service]
    found = next((each for each in known if each.endpoint == given), None)
    if found is None:
        names = [each.endpoint for each in known]
        detail = f"The upstream has no such endpoint. Known: {', '.join(names)}."
        raise RefusalError(404, detail, reason="unknown_endpoint", members={"known": names})
    return found


def _listed(gateway: ControlledGateway, found: list[EndpointView]) -> Endpoints:
    return Endpoints(
        total=len(found),
        out=sum(bool(each.out) for each in found),
        scope=scope(gateway),
        endpoints=[_endpoint(gateway, each) for each in found],
    )


def _endpoint(gateway: ControlledGateway, each: EndpointView) -> Endpoint:
    return Endpoint(
        upstream=each.upstream,
        endpoint=each.endpoint,
        state=each.out or "enabled",
        available=each.available,
        healthy=each.healthy,
        ejected=each.ejected,
        in_flight=each.in_flight,
        until=rfc3339(gateway.clock() + each.out_for) if each.out else None,
        reason=each.out_reason,
    )


def _done(
    gateway: ControlledGateway,
    call: Call[Any, Any],
    action: Literal["drain", "disable", "enable"],
    before: EndpointView,
    everywhere: bool,
    reason: str | None,
    duration: float | None,
) -> EndpointCommand:
    after = _found(gateway, call)
    done = EndpointCommand(
        action=action, scope="fleet" if everywhere else "process", endpoint=_endpoint(gateway, after)
    )
    audit.record(
        f"{action} endpoint {after.endpoint}",
        call,
        reason=reason,
        before=before.out or "enabled",
        after=after.out or "enabled",
        scope=done.scope,
        duration=duration,
    )
    return done

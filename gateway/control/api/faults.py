"""Faults on demand: to set one, to see those of now, to end them.

They need FAULTS_ENABLED and the ADMIN_TOKEN. They are those of the whole fleet.
"""

from typing import Any

from gateway.control.api import audit
from gateway.control.api.operation import Call, Operation, get
from gateway.control.models.faults import Fault, Faults, FaultsRemoved, NewFault
from gateway.control.models.shapes import Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.ports.faults import FaultInTheWay, FaultOrder, FaultsAway, FaultsView, FaultView
from gateway.control.services import Services
from gateway.control.serving.problem import RefusalError
from gateway.telemetry.log.render import rfc3339

PATH = "/api/resilience/faults"


def operations(gateway: ControlledGateway, upstreams: Services) -> list[Operation[Any, Any]]:
    """The operations on faults. Without FAULTS_ENABLED they say so."""

    async def listed(_: Call[Nothing, Nothing]) -> Faults:
        """The faults of now."""
        view = gateway.faults
        if view is None:
            return Faults(enabled=False, max_percent=0.0, max_duration=0.0, count=0, faults=[])
        found = [shown(gateway, each) for each in view.faults]
        limits = {"max_percent": view.max_percent, "max_duration": view.max_duration}
        return Faults(enabled=True, **limits, count=len(found), faults=found)

    async def one(call: Call[Nothing, Nothing]) -> Fault:
        """One fault."""
        return _found(gateway, call)

    async def add(call: Call[Nothing, NewFault]) -> Fault:
        """Have one in the whole fleet."""
        view, body = enabled(gateway), call.body
        upstream = upstreams.named(body.scope.upstream)
        order = _order(gateway, view, upstream, call)
        await check_health(view, upstream)
        name = await told(view.add(order))
        made = next((each for each in view.faults if each.id == name), None)
        if made is None:
            raise RefusalError(503, "The fault is over already: the store was lost.", reason="unavailable")
        recorded(call, f"add fault {name} ({body.kind})", upstream, body.reason, after="active", seconds=body.duration)
        return shown(gateway, made)

    async def remove(call: Call[Nothing, Nothing]) -> FaultsRemoved:
        """End one."""
        view = enabled(gateway)
        before = _found(gateway, call)
        count = await told(view.remove([before.id]))
        recorded(call, f"remove fault {before.id}", before.upstream, None, before="active")
        return FaultsRemoved(removed=count)

    async def remove_all(call: Call[Nothing, Nothing]) -> FaultsRemoved:
        """End all of them."""
        count = await told(enabled(gateway).remove_all())
        recorded(call, "remove all faults", "", None, before="active" if count else "over")
        return FaultsRemoved(removed=count)

    single = f"{PATH}/{{fault}}"
    fixed: dict[str, Any] = {"changes": True, "query": Nothing}
    return [
        get(PATH, "listFaults", "The faults on demand that upstreams meet now", Faults, listed),
        get(single, "getFault", "One fault", Fault, one),
        Operation(
            "POST", PATH, "addFault", "Have attempts at an upstream fail, for a drill", Fault, add,
            body=NewFault, body_required=True, refusals=(404, 409, 503), **fixed,
        ),
        Operation("DELETE", single, "removeFault", "End a fault", FaultsRemoved, remove,
                  body=Nothing, refusals=(503,), **fixed),
        Operation("DELETE", PATH, "removeFaults", "End every fault, chaos keys included", FaultsRemoved, remove_all,
                  body=Nothing, refusals=(503,), **fixed),
    ]  # fmt: skip


def enabled(gateway: ControlledGateway) -> FaultsView:
    """The faults. Raises `RefusalError` (403) where they are not switched on."""
    if gateway.faults is None:
        raise RefusalError(403, "Faults are not enabled: FAULTS_ENABLED=true does it.", reason="faults_disabled")
    return gateway.faults


def check_limits(view: FaultsView, percent: float, duration: float) -> None:
    """Raises `RefusalError` (403) for more than one may ask for."""
    for name, given, most, setting in (
        ("percent", percent, view.max_percent, "FAULTS_MAX_PERCENT"),
        ("duration", duration, view.max_duration, "FAULTS_MAX_DURATION_SECONDS"),
    ):
        if given > most:
            detail = f"{name} is {given:g}, but {setting} allows {most:g} at most."
            raise RefusalError(403, detail, reason="beyond_limit", members={"member": name, "allowed": most})


async def check_health(view: FaultsView, upstream: str) -> None:
    """Raises `RefusalError` (409) where the upstream fails enough by itself."""
    if await view.critical(upstream):
        detail = f"The error rate of {upstream} is critical already: a fault would end at once."
        raise RefusalError(409, detail, reason="upstream_critical")


async def told(asked: Any) -> Any:
    """What an order comes to. Raises `RefusalError`: 409 for what is in the way, 503 while the store is away."""
    try:
        return await asked
    except FaultsAway:
        detail = "The store does not answer, and without it there are no faults."
        raise RefusalError(503, detail, reason="unavailable", retry_after=1.0) from None
    except FaultInTheWay as why:
        if why.upstream:
            detail = f"{why.upstream} has faults now, and only one upstream may at a time."
            raise RefusalError(409, detail, reason="faults_elsewhere", members={"upstream": why.upstream}) from None
        raise RefusalError(409, "There are as many faults as there may be.", reason="too_many_faults") from None


def operator_of(call: Call[Any, Any]) -> str:
    """Who asks, as a fault says it."""
    assert call.actor is not None  # noqa: S101 - only operations that need access set one
    return audit.operator_of(call) or call.actor.by


def recorded(
    call: Call[Any, Any],
    action: str,
    upstream: str,
    reason: str | None,
    *,
    before: str = "none",
    after: str = "over",
    seconds: float | None = None,
) -> None:
    """Write an order to the audit log."""
    named = call._replace(service=upstream)
    audit.record(action, named, before=before, after=after, scope="fleet", reason=reason, duration=seconds)


def shown(gateway: ControlledGateway, each: FaultView) -> Fault:
    """A fault as the API says it."""
    return Fault(
        id=each.id,
        upstream=each.upstream,
        route=each.route or None,
        endpoint=each.endpoint or None,
        client_header=each.header or None,
        client_percent=each.clients,
        kind=each.kind,
        percent=each.percent,
        does=each.does,
        reason=each.reason,
        by=each.by,
        source=each.source,
        until=rfc3339(gateway.clock() + each.left),
        seconds_left=round(each.left, 3),
    )


def _order(gateway: ControlledGateway, view: FaultsView, upstream: str, call: Call[Nothing, NewFault]) -> FaultOrder:
    body = call.body
    scope = body.scope
    check_limits(view, body.percent, body.duration)
    if scope.route is not None and view.routes.get(scope.route) != upstream:
        known = [route for route, to in view.routes.items() if to == upstream]
        raise _unknown("route", f"{upstream} has no such route", known)
    endpoint = (scope.endpoint or "").lower()
    known = [each.endpoint for each in gateway.view.endpoints if each.upstream == upstream]
    if endpoint and endpoint not in known:
        raise _unknown("endpoint", f"{upstream} has no such endpoint", known)
    clients = scope.clients
    return FaultOrder(
        *(upstream, body.kind, body.percent, body.duration, body.reason, operator_of(call)),
        route=scope.route or "",
        endpoint=endpoint,
        header="" if clients is None else clients.header,
        clients=100.0 if clients is None else clients.percent,
        delay=body.delay_ms / 1000,
        status=body.status,
        rate=body.bytes_per_second,
    )


def _unknown(what: str, why: str, known: list[str]) -> RefusalError:
    detail = f"{why}. Known: {', '.join(known) or 'none'}."
    return RefusalError(404, detail, reason=f"unknown_{what}", members={"known": known})


def _found(gateway: ControlledGateway, call: Call[Any, Any]) -> Fault:
    name = call.request.match_info["fault"]
    faults = [] if gateway.faults is None else gateway.faults.faults
    found = next((each for each in faults if each.id == name), None)
    if found is None:
        raise _unknown("fault", "There is no such fault now", [each.id for each in faults])
    return shown(gateway, found)

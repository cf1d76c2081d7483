"""`/chaos/config`: the faults of one upstream in the words of the failure-recovery runbook.

`error_rate` is a share of the attempts, answered with 503; `latency_ms` and `lock_contention_ms` have answers come
later. They are faults like any other (`gateway.control.api.faults`), and so are the keys
`chaos:{upstream}:{setting}` in Redis.
"""

from typing import Annotated, Any

from pydantic import Field

from gateway.control.api.faults import check_health, check_limits, enabled, operator_of, recorded, told
from gateway.control.api.operation import Call, Operation
from gateway.control.models.faults import ChaosConfig, NewChaosConfig
from gateway.control.models.shapes import Input, Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.ports.faults import ChaosSetting, FaultOrder, FaultsView
from gateway.control.services import Services

PATH = "/chaos/config"
_USUAL = "default"


class WhichUpstream(Input):
    """Whose faults are meant."""

    upstream: Annotated[
        str | None,
        Field(min_length=1, description="Name of an upstream, in any case; default, or the first, if not given"),
    ] = None


def operations(gateway: ControlledGateway, upstreams: Services) -> list[Operation[Any, Any]]:
    """The operations on `/chaos/config`. Without FAULTS_ENABLED they say so."""

    async def show(call: Call[WhichUpstream, Nothing]) -> ChaosConfig:
        """What is in force."""
        return await _shown(enabled(gateway), named(upstreams, call.query.upstream))

    async def change(call: Call[WhichUpstream, NewChaosConfig]) -> ChaosConfig:
        """Put some of it in place of what is."""
        view, body = enabled(gateway), call.body
        upstream = named(upstreams, call.query.upstream)
        duration = view.max_duration if body.duration is None else body.duration
        given = body.model_dump(include={"error_rate", "latency_ms", "lock_contention_ms"}, exclude_none=True)
        values: dict[ChaosSetting, float] = given  # type: ignore[assignment] # the names are those of the model
        check_limits(view, 100 * values.get("error_rate", 0.0), duration)
        if any(values.values()):
            await check_health(view, upstream)
        order = FaultOrder(upstream, "abort", 1.0, duration, body.reason, operator_of(call))
        await told(view.set_chaos(upstream, values, order))
        after = ", ".join(f"{name}={value:g}" for name, value in values.items())
        recorded(call, "set chaos", upstream, body.reason, after=after or "unchanged", seconds=duration)
        return await _shown(view, upstream)

    async def clear(call: Call[WhichUpstream, Nothing]) -> ChaosConfig:
        """End all of it."""
        view = enabled(gateway)
        upstream = named(upstreams, call.query.upstream)
        order = FaultOrder(upstream, "abort", 1.0, 1.0, "", operator_of(call))
        nothing: dict[ChaosSetting, float] = {"error_rate": 0.0, "latency_ms": 0.0, "lock_contention_ms": 0.0}
        await told(view.set_chaos(upstream, nothing, order))
        recorded(call, "clear chaos", upstream, None, before="active")
        return await _shown(view, upstream)

    fixed: dict[str, Any] = {"answer": ChaosConfig, "query": WhichUpstream}
    return [
        Operation("GET", PATH, "getChaosConfig", "The chaos of an upstream", run=show, body=Nothing,
                  refusals=(403, 404), **fixed),
        Operation("PUT", PATH, "setChaosConfig", "Have an upstream fail or answer late", run=change,
                  body=NewChaosConfig, body_required=True, changes=True, refusals=(404, 409, 503), **fixed),
        Operation("DELETE", PATH, "clearChaosConfig", "End the chaos of an upstream", run=clear, body=Nothing,
                  changes=True, refusals=(404, 503), **fixed),
    ]  # fmt: skip


def named(upstreams: Services, given: str | None) -> str:
    """The upstream that is meant. Raises `RefusalError` (404) for an unknown one."""
    if given is not None:
        return upstreams.named(given)
    return _USUAL if _USUAL in upstreams.names else upstreams.names[0]


async def _shown(view: FaultsView, upstream: str) -> ChaosConfig:
    return ChaosConfig.model_validate({"upstream": upstream, **await view.chaos(upstream)})

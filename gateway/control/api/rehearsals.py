"""`/api/test/…`: calls that are made up, for the testing procedures of the resilience runbook.

The circuit and the figures of an upstream see calls that have failed or succeeded; the upstream does not hear of them.
They need FAULTS_ENABLED and the ADMIN_TOKEN, as faults do.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from gateway.control.api.chaos import WhichUpstream, named
from gateway.control.api.circuits import word
from gateway.control.api.faults import enabled, recorded
from gateway.control.api.operation import Call, Operation
from gateway.control.models.faults import Rehearsed
from gateway.control.models.shapes import Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.services import Services
from gateway.control.serving.problem import RefusalError

PATH = "/api/test"
_MOST_CALLS = 1000
# A circuit of several replicas decides a little later than its failures come.
_LOOKS = 40
_PAUSE = 0.05


def operations(gateway: ControlledGateway, upstreams: Services) -> list[Operation[Any, Any]]:
    """The operations below `/api/test`. Without FAULTS_ENABLED they say so."""

    def state(upstream: str) -> str:
        circuit = gateway.circuit(upstream)
        assert circuit is not None  # noqa: S101 - the name was looked up among the circuits
        return word(circuit.state)

    def rehearsed(upstream: str, calls: int) -> Rehearsed:
        return Rehearsed.model_validate({"upstream": upstream, "calls": calls, "circuitState": state(upstream)})

    async def fail(call: Call[WhichUpstream, Nothing]) -> Rehearsed:
        """One call that fails. The answer is the failure."""
        view, upstream = enabled(gateway), named(upstreams, call.query.upstream)
        counted = await view.fail_once(upstream)
        why = "This failure was asked for." if counted else "The circuit lets no call through."
        raise RefusalError(503, why, reason="fault_injected" if counted else "circuit_open")

    async def open_circuit(call: Call[WhichUpstream, Nothing]) -> Rehearsed:
        """Calls that fail, until the circuit opens."""
        view, upstream = enabled(gateway), named(upstreams, call.query.upstream)
        before, calls = state(upstream), 0
        threshold = getattr(gateway.breakers[upstream], "failure_threshold", 0)
        while state(upstream) != "Open" and calls < min(threshold, _MOST_CALLS) and await view.fail_once(upstream):
            calls += 1
        await _until(lambda: state(upstream) == "Open")
        recorded(call, "open circuit by failures", upstream, None, before=before, after=state(upstream))
        return rehearsed(upstream, calls)

    async def succeed(call: Call[WhichUpstream, Nothing]) -> Rehearsed:
        """Calls that succeed: one, or as many as a half-open circuit needs to close."""
        view, upstream = enabled(gateway), named(upstreams, call.query.upstream)
        before, calls = state(upstream), 0
        threshold = getattr(gateway.breakers[upstream], "half_open_success_threshold", 1)
        while calls < threshold and await view.succeed_once(upstream):
            calls += 1
            if state(upstream) == "Closed":
                break
        if not calls:
            raise RefusalError(503, "The circuit lets no call through.", reason="circuit_open")
        await _until(lambda: state(upstream) == "Closed")
        recorded(call, "make calls that succeed", upstream, None, before=before, after=state(upstream))
        return rehearsed(upstream, calls)

    fixed: dict[str, Any] = {
        "answer": Rehearsed, "query": WhichUpstream, "body": Nothing, "changes": True, "refusals": (404, 503),
    }  # fmt: skip
    return [
        Operation("GET", f"{PATH}/failure-injection", "injectFailure",
                  "A call that fails: the answer is 503, and the circuit has seen it", run=fail, **fixed),
        Operation("POST", f"{PATH}/circuit-breaker/open", "openCircuitByFailures",
                  "Calls that fail, until the circuit opens; it recovers by itself", run=open_circuit, **fixed),
        Operation("GET", f"{PATH}/success", "injectSuccess",
                  "Calls that succeed, which close a half-open circuit", run=succeed, **fixed),
    ]  # fmt: skip


async def _until(true: Callable[[], bool]) -> None:
    for _ in range(_LOOKS):
        if true():
            return
        await asyncio.sleep(_PAUSE)

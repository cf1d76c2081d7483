"""The circuits: their states, and an operator's commands.

States are this replica's, which follow the fleet's within a quarter of a second; commands go to the whole fleet.
"""

from typing import Any, Literal

from gateway.control.api import audit
from gateway.control.api.operation import Call, Operation, get
from gateway.control.models.circuits import (
    Circuit,
    CircuitCommand,
    CircuitCounts,
    CircuitDetail,
    Circuits,
    CircuitSettings,
    CircuitTransition,
    Force,
    Release,
)
from gateway.control.models.shapes import Nothing
from gateway.control.models.words import CIRCUIT_WORDS, CircuitWord
from gateway.control.parts import ControlledGateway
from gateway.control.ports.gateway import CircuitView, plain_state
from gateway.telemetry.log.render import rfc3339

PATH = "/api/resilience/circuit-breakers"


def word(state: str) -> CircuitWord:
    """The state as the API says it: Closed, Open or HalfOpen. A forced state counts as the state that it forces."""
    return CIRCUIT_WORDS[plain_state(state)]


def members(gateway: ControlledGateway, circuit: CircuitView) -> dict[str, Any]:
    """The members of `gateway.control.models.circuits.Circuit`."""
    now = gateway.clock()
    last = gateway.history.last(circuit.upstream)
    plain = plain_state(circuit.state)
    forced = plain != circuit.state
    since = last.at if last is not None else circuit.opened_at
    wait = max(0.0, circuit.retry_after)
    return {
        "service": circuit.upstream,
        "state": CIRCUIT_WORDS[plain],
        "circuit_state": CIRCUIT_WORDS[plain],
        "forced": forced,
        "since": None if since is None else rfc3339(since),
        "cause": circuit.cause,
        "failures": circuit.failures,
        "next_probe_time": rfc3339(now + wait) if plain == "open" and not forced else None,
        "forced_until": rfc3339(now + circuit.forced_for) if forced else None,
        "retry_after": round(wait, 3),
        "generation": circuit.generation,
    }


def scope(gateway: ControlledGateway) -> Literal["fleet", "process"]:
    """Without a store this process is the fleet."""
    redis = gateway.view.redis
    return "fleet" if redis is None or redis.up else "process"


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operations on circuits: to see them, to force one, to release it."""

    async def breakers(_: Call[Nothing, Nothing]) -> Circuits:
        """Every circuit."""
        circuits = [Circuit(**members(gateway, circuit)) for circuit in gateway.view.circuits]
        return Circuits(
            total=len(circuits),
            open=sum(circuit.state != "Closed" for circuit in circuits),
            scope=scope(gateway),
            circuit_breakers=circuits,
        )

    async def breaker(call: Call[Nothing, Nothing]) -> CircuitDetail:
        """One circuit, with its settings, its counts and its latest transitions."""
        return _detail(gateway, _found(gateway, call.service))

    def forcing(state: Literal["forced_open", "forced_closed"], action: Literal["force-open", "force-closed"]) -> Any:
        async def force(call: Call[Nothing, Force]) -> CircuitCommand:
            """Hold the circuit in a state for a time."""
            before = _found(gateway, call.service).state
            everywhere = await gateway.commands.force(call.service, state, call.body.duration, call.body.reason)
            return _done(gateway, call, action, before, call.body.reason, everywhere, call.body.duration)

        return force

    async def release(call: Call[Nothing, Release]) -> CircuitCommand:
        """End a forced state, if there is one."""
        before = _found(gateway, call.service).state
        everywhere = await gateway.commands.release(call.service)
        return _done(gateway, call, "release", before, call.body.reason, everywhere, None)

    path = f"{PATH}/{{service}}"
    open_summary = "Hold a circuit open: every request to the service is refused"
    closed_summary = "Hold a circuit closed: every request goes through, whatever fails"
    fixed: dict[str, Any] = {"query": Nothing, "answer": CircuitCommand, "changes": True}
    return [
        get(PATH, "listCircuitBreakers", "Every circuit", Circuits, breakers),
        get(path, "getCircuitBreaker", "One circuit, with its last transitions", CircuitDetail, breaker),
        Operation(
            "POST", f"{path}/force-open", "forceCircuitOpen", open_summary,
            run=forcing("forced_open", "force-open"), body=Force, body_required=True, **fixed,
        ),
        Operation(
            "POST", f"{path}/force-closed", "forceCircuitClosed", closed_summary,
            run=forcing("forced_closed", "force-closed"), body=Force, body_required=True, **fixed,
        ),
        Operation(
            "POST", f"{path}/release", "releaseCircuit", "End a forced state; no effect on one that is not",
            run=release, body=Release, **fixed,
        ),
    ]  # fmt: skip


def _found(gateway: ControlledGateway, service: str) -> CircuitView:
    circuit = gateway.circuit(service)
    assert circuit is not None  # noqa: S101 - the service's name was looked up among the circuits
    return circuit


def _detail(gateway: ControlledGateway, circuit: CircuitView) -> CircuitDetail:
    return CircuitDetail(
        **members(gateway, circuit),
        scope=scope(gateway),
        counts=CircuitCounts(calls=circuit.calls, failed_calls=circuit.failed_calls, slow_calls=circuit.slow_calls),
        settings=CircuitSettings.model_validate(gateway.breakers[circuit.upstream], from_attributes=True),
        transitions=[
            CircuitTransition(
                time=rfc3339(each.at),
                from_state=word(each.from_state),
                to_state=word(each.to_state),
                forced=each.to_state.startswith("forced_"),
                cause=each.cause,
            )
            for each in gateway.history.of(circuit.upstream)
        ],
    )


def _done(
    gateway: ControlledGateway,
    call: Call[Any, Any],
    action: Literal["force-open", "force-closed", "release"],
    before: str,
    reason: str | None,
    everywhere: bool,
    duration: float | None,
) -> CircuitCommand:
    circuit = _found(gateway, call.service)
    done = CircuitCommand(
        service=call.service,
        action=action,
        scope="fleet" if everywhere else "process",
        circuit=Circuit(**members(gateway, circuit)),
    )
    audit.record(action, call, reason=reason, before=before, after=circuit.state, scope=done.scope, duration=duration)
    return done

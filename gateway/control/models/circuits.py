"""The answers and inputs of the API about circuits."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import Answer, Input
from gateway.control.models.words import REASON, CircuitWord, Count, Instant, Scope, Seconds


class Circuit(Answer):
    """The circuit of one service, as this replica acts on it."""

    service: str
    state: CircuitWord
    circuit_state: Annotated[CircuitWord, Field(description="The same as state")]
    forced: Annotated[bool, Field(description="An operator holds it in this state")]
    since: Annotated[Instant | None, Field(description="When this state began; null: with the process")]
    cause: Annotated[str, Field(description="Why it is in this state; empty: it never left the first one")]
    failures: Annotated[Count, Field(description="Consecutive failures, counted up to the threshold")]
    next_probe_time: Annotated[Instant | None, Field(description="When an attempt may be let through next; Open only")]
    forced_until: Annotated[Instant | None, Field(description="When the forced state ends by itself; null: not forced")]
    retry_after: Annotated[Seconds, Field(description="Seconds until a request may be let through; 0: now")]
    generation: Annotated[Count, Field(description="Changes with every transition")]


class Circuits(Answer):
    """Every circuit, in the order of the configuration."""

    total: Count
    open: Annotated[Count, Field(description="How many are not Closed")]
    scope: Scope
    circuit_breakers: list[Circuit]


class CircuitCounts(Answer):
    """What this replica itself has seen within the breaker's window: now while the circuit is closed, otherwise when it
    last was. They may be 0 where the calls of other replicas tripped it. Probes are not counted."""

    calls: Count
    failed_calls: Count
    slow_calls: Count


class CircuitTransition(Answer):
    """One change of a circuit's state, as this replica saw it."""

    time: Instant
    from_state: CircuitWord
    to_state: CircuitWord
    forced: Annotated[bool, Field(description="By an operator")]
    cause: str


class CircuitSettings(Answer):
    """When it trips and how it recovers."""

    failure_threshold: Count
    failure_rate_threshold: float
    slow_call_threshold: float | None
    slow_call_rate_threshold: float
    window_size: Count
    window_seconds: Seconds
    minimum_calls: Count
    reset_timeout: Seconds
    half_open_max_probes: Count
    half_open_success_threshold: Count


class CircuitDetail(Circuit):
    """One circuit with what led to its state. `transitions` are the last 50 that this replica saw, newest first."""

    scope: Scope
    counts: CircuitCounts
    settings: CircuitSettings
    transitions: list[CircuitTransition]


class CircuitCommand(Answer):
    """What was done."""

    service: str
    action: Literal["force-open", "force-closed", "release"]
    scope: Annotated[
        Scope, Field(description="fleet: every replica follows; process: only this one, the store is away")
    ]
    circuit: Circuit


class Force(Input):
    """`duration` in seconds; then the circuit is closed and judges for itself."""

    duration: Annotated[float, Field(ge=1, le=86_400, description="Seconds; at most a day")]
    reason: Annotated[str, REASON]


class Release(Input):
    """An order to end a forced state."""

    reason: Annotated[str | None, REASON] = None

"""The answers of the API: what they are made of when they are served, and what the OpenAPI document says.

Names and words are the runbooks': `errorRate`, `errorsPerMinute`, `circuitState` (Closed, Open, HalfOpen),
`lastErrorTime`; Healthy, Degraded, Unhealthy. Instants are RFC 3339 in UTC, durations seconds.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from gateway.control.shapes import PLAIN, WITHOUT, Answer, Input

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, UTC")]
HealthWord = Literal["Healthy", "Degraded", "Unhealthy"]
CircuitWord = Literal["Closed", "Open", "HalfOpen"]
Scope = Annotated[
    Literal["fleet", "process"],
    Field(description="Whose they are: of all replicas, or of this process alone because the store is away"),
]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, description="Seconds")]

CIRCUIT_WORDS: dict[str, CircuitWord] = {"closed": "Closed", "open": "Open", "half_open": "HalfOpen"}


class Problem(BaseModel):
    """RFC 9457. Some problems add members: `known`, `parameter`, `member`, `allowed`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    reason: Annotated[str, Field(description="A stable word for programs")]
    retry_after: Annotated[int, Field(ge=1, description="Seconds, where there is one")] = 1
    request_id: str


class ErrorsByCategory(Answer):
    """All ten, in the runbook's words."""

    model_config = ConfigDict(alias_generator=None)

    Timeout: Count = 0
    Network: Count = 0
    Authentication: Count = 0
    Validation: Count = 0
    RateLimit: Count = 0
    InvalidState: Count = 0
    Cancellation: Count = 0
    Configuration: Count = 0
    Dependency: Count = 0
    Unknown: Count = 0


class ErrorRate(Answer):
    """How often a service failed within a window."""

    service: str
    window_minutes: Annotated[int, Field(ge=1, le=60)]
    error_rate: Annotated[Fraction, Field(description="failedRequests / requests; below 0.05 is healthy")]
    errors_per_minute: Annotated[float, Field(ge=0, description="errors / windowMinutes; below 10 is healthy")]
    requests: Annotated[Count, Field(description="Requests that are over")]
    failed_requests: Annotated[Count, Field(description="Of these, the ones that ended in a 5xx or were cut off")]
    errors: Annotated[
        Count, Field(description="Failed attempts, retried ones included, and refusals with a 5xx status")
    ]
    refused: Annotated[Count, Field(description="Refusals with a 4xx status: the limits at work, no failure")]
    errors_by_category: Annotated[ErrorsByCategory, Field(description="They sum up to errors + refused")]
    last_error_time: Annotated[Instant | None, Field(description="null: none within the hour")]
    scope: Scope


class ServiceMetrics(ErrorRate):
    """The figures of a service and the state of its circuit."""

    status: HealthWord
    circuit_state: Annotated[CircuitWord | None, Field(description="null: the gateway itself, which has no circuit")]


class Metrics(Answer):
    """The figures of every service. The gateway itself is the last: requests that concerned no upstream."""

    window_minutes: int
    services: list[ServiceMetrics]


class ErrorEntry(Answer):
    """One failed attempt or refusal."""

    time: Instant
    request_id: str
    correlation_id: str
    service: str
    category: Literal[
        "Timeout", "Network", "Authentication", "Validation", "RateLimit",
        "InvalidState", "Cancellation", "Configuration", "Dependency", "Unknown",
    ]  # fmt: skip
    reason: Annotated[str, Field(description="A stable word, as in the gateway's problem documents and logs")]
    status: Annotated[int | None, Field(description="The upstream's or the refusal's; null: there was no answer")]
    attempt: Annotated[Count, Field(description="From 1; 0: refused before any attempt")]
    message: str
    client: Annotated[str | None, Field(description="null unless the question names one: for operators alone")] = None


class RecentErrors(Answer):
    """Newest first."""

    count: Count
    scope: Scope
    errors: list[ErrorEntry]


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


REASON = Field(
    min_length=1,
    max_length=200,
    pattern=PLAIN,
    description="Why, for the audit log and for whoever looks at what was done",
    json_schema_extra=WITHOUT,
)


class Force(Input):
    """`duration` in seconds; then the circuit is closed and judges for itself."""

    duration: Annotated[float, Field(ge=1, le=86_400, description="Seconds; at most a day")]
    reason: Annotated[str, REASON]


class Release(Input):
    """An order to end a forced state."""

    reason: Annotated[str | None, REASON] = None


class Endpoint(Answer):
    """One address of an upstream, as this replica sees it."""

    upstream: str
    endpoint: str
    state: Annotated[
        Literal["enabled", "drained", "disabled"],
        Field(description="drained, disabled: no new requests, by an operator; disabled: no health checks either"),
    ]
    available: Annotated[bool, Field(description="Enabled, not ejected, and well by its health check")]
    healthy: bool
    ejected: bool
    in_flight: Count
    until: Annotated[Instant | None, Field(description="When it is enabled again by itself; null: it is")]
    reason: Annotated[str, Field(description="Why it was taken out; empty: it was not")]


class Endpoints(Answer):
    """Every endpoint, in the order of the configuration."""

    total: Count
    out: Annotated[Count, Field(description="How many an operator has taken out")]
    scope: Scope
    endpoints: list[Endpoint]


class TakeOut(Input):
    """`duration` in seconds; then the endpoint is enabled again by itself."""

    duration: Annotated[float, Field(ge=1, le=604_800, description="Seconds; at most a week")]
    reason: Annotated[str, REASON]


class EndpointCommand(Answer):
    """What was done."""

    action: Literal["drain", "disable", "enable"]
    scope: Annotated[
        Scope, Field(description="fleet: every replica follows; process: only this one, the store is away")
    ]
    endpoint: Endpoint


class Reset(Answer):
    """What was forgotten, and where."""

    service: str
    figures: Scope
    circuit: Annotated[Scope | None, Field(description="null: the gateway itself has no circuit")]
    circuit_state: CircuitWord | None


class ServiceHealth(Answer):
    """The state of one service, and why it is not better."""

    service: str
    status: HealthWord
    circuit_state: CircuitWord | None
    error_rate: Fraction
    errors_per_minute: Annotated[float, Field(ge=0)]
    last_error_time: Instant | None
    reasons: list[str]


class ResilienceHealth(Answer):
    """Healthy: nothing to do. Degraded: watch, and look into it if it lasts. Unhealthy: act now."""

    status: HealthWord
    time: Instant
    reasons: Annotated[list[str], Field(description="What is wrong and what to do about it; empty when Healthy")]
    window_minutes: int
    services: list[ServiceHealth]
    active_alerts: Count
    scope: Scope


class AlertEntry(Answer):
    """One alert."""

    id: str
    name: str
    severity: Literal["warning", "critical"]
    service: str
    state: Literal["active", "resolved"]
    message: str
    first_time: Instant
    last_time: Instant
    resolved_time: Instant | None
    count: Annotated[Count, Field(description="Checks that found it so")]


class Alerts(Answer):
    """Worst first, then newest first; resolved ones last."""

    count: Count
    alerts: list[AlertEntry]


class Cleanup(Answer):
    """What a clean-up of alerts has done."""

    removed: Annotated[Count, Field(description="Resolved alerts that were forgotten; active ones stay")]


class ExplainedRequest(Answer):
    """The request that was asked about, as the gateway reads it."""

    method: str
    host: str
    path: str
    client: Annotated[str, Field(description="As it is limited and logged: an IPv4 address or an IPv6 /64")]


class Candidate(Answer):
    """One route, and why it is taken or not."""

    route: str
    host: Annotated[str | None, Field(description="null: any")]
    prefix: str
    methods: Annotated[list[str] | None, Field(description="null: all")]
    matches: bool
    why: str


class Step(Answer):
    """What one policy would say now. `figures` depend on the policy."""

    policy: Annotated[str, Field(description="The name of a gate, or of another step, in the order of the policies")]
    decision: Annotated[
        Literal["allow", "wait", "refuse", "exempt", "none"],
        Field(description="wait: in a queue; exempt: not for this client; none: it does not apply"),
    ]
    detail: str
    status: Annotated[int | None, Field(description="Of the refusal")]
    reason: str | None
    retry_after: float | None
    figures: dict[str, int | float | str]


class Forwarded(Answer):
    """What the upstream would be asked."""

    upstream: str
    path: str
    host: str


class ExplainedEndpoint(Answer):
    """One endpoint that the request could be sent to."""

    endpoint: str
    healthy: bool
    ejected: bool
    out: Annotated[Literal["drained", "disabled"] | None, Field(description="What an operator has done to it")]
    in_flight: Count
    weight: Count


class Explanation(Answer):
    """What would become of the request now. Nothing is sent and nothing is spent."""

    request: ExplainedRequest
    outcome: Annotated[
        Literal["control_plane", "refused", "waits", "forwarded", "answered"],
        Field(
            description="answered: by the gateway itself, with the response of a fallback, or once the request is in"
            " the journal; then `forwarded` says where a message goes later"
        ),
    ]
    worker: Annotated[
        int | None, Field(description="The worker that answers: places in flight are its share; null: there is one")
    ] = None
    refusal: Annotated[Step | None, Field(description="The first step that refuses")]
    route: str | None
    forwarded: Forwarded | None
    candidates: list[Candidate]
    steps: Annotated[list[Step], Field(description="In the order of the policies")]
    endpoints: list[ExplainedEndpoint]

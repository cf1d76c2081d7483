"""A snapshot of the gateway as `GET /api/resilience/live` tells it.

Lists that change are objects by name, so that a JSON Merge Patch (RFC 7396) can change a part of them. A merge patch
cannot say null, so a member that does not apply is left out. Rates are a second, over the last `windowSeconds`.
"""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import Answer
from gateway.control.models.words import CircuitWord, Count, Fraction, HealthWord, Instant, Scope, Seconds

Rate = Annotated[float, Field(ge=0, description="A second")]
Percentile = Annotated[
    float | None, Field(description="Seconds, estimated within a bucket of the histogram; left out where none were")
]


class Latency(Answer):
    """How long something took."""

    p50: Percentile = None
    p95: Percentile = None
    p99: Percentile = None


class LiveTransition(Answer):
    """One change of a circuit's state."""

    time: Instant
    from_state: CircuitWord
    to_state: CircuitWord
    forced: Annotated[bool, Field(description="By an operator")]
    cause: str


class LiveCircuit(Answer):
    """The circuit of a service, and what became of it within the last hour."""

    state: CircuitWord
    forced: bool
    cause: str
    failures: Annotated[Count, Field(description="Consecutive ones")]
    calls: Annotated[Count, Field(description="Within the breaker's window")]
    failed_calls: Count
    since: Annotated[Instant | None, Field(description="Left out: since the start")] = None
    next_probe_time: Annotated[Instant | None, Field(description="Open only")] = None
    forced_until: Annotated[Instant | None, Field(description="Forced only")] = None
    transitions: Annotated[list[LiveTransition], Field(description="Of the last hour, oldest first")]


class LiveEndpoint(Answer):
    """One address of a service."""

    state: Annotated[Literal["enabled", "drained", "disabled"], Field(description="What an operator has done to it")]
    available: bool
    healthy: bool
    ejected: bool
    in_flight: Count
    until: Annotated[Instant | None, Field(description="When it is enabled again by itself")] = None
    reason: Annotated[str | None, Field(description="Why it was taken out")] = None


class LiveGroup(Answer):
    """The times within which nine of ten answers of a latency group come, in seconds."""

    recent: Annotated[Seconds, Field(description="Lately; 0: too few have come")]
    usual: Annotated[Seconds, Field(description="Usually; 0: too few have come")]


class LiveAdaptive(Answer):
    """The adaptive limit of a bulkhead, of all workers together."""

    mode: Annotated[Literal["enforce", "observe"], Field(description="observe: it is computed and not in force")]
    limit: Count
    most: Annotated[Count, Field(description="What is configured, which it never exceeds")]
    groups: Annotated[dict[str, LiveGroup], Field(description="By latency group")]


class LiveService(Latency):
    """One upstream: what its routes ask of it, and what becomes of that. The percentiles are those of attempts."""

    status: HealthWord
    reasons: list[str]
    requests: Annotated[
        Rate,
        Field(
            description="Requests on its routes, refused ones included. Of routes with a split, those that went to it; "
            "what was refused before that is the first one's"
        ),
    ]
    failed: Annotated[Rate, Field(description="Of these, the ones that ended in a 5xx")]
    error_rate: Annotated[Fraction, Field(description="failed / requests")]
    attempts: Rate
    failed_attempts: Rate
    retries: Rate
    limited: Annotated[Rate, Field(description="Refused by a rate limit")]
    shed: Annotated[Rate, Field(description="Refused because a cap was reached: bulkhead_full, overloaded")]
    refused: Annotated[
        dict[str, Rate], Field(description="All refusals by reason; those that there are none of left out")
    ]
    in_flight: Count
    queued: Count
    limit: Annotated[Count, Field(description="The bulkhead, of all workers together")]
    adaptive: Annotated[LiveAdaptive | None, Field(description="Left out where the limit is fixed")] = None
    refused_priorities: Annotated[
        dict[str, Rate],
        Field(description="Refused by the bulkhead, by priority; none: left out"),
    ]
    circuit: LiveCircuit | None = None
    endpoints: dict[str, LiveEndpoint]


class LivePart(Answer):
    """The requests of a route that went to one of the upstreams it splits them among."""

    requests: Rate
    failed: Annotated[Rate, Field(description="Of these, the ones that ended in a 5xx")]


class LiveHedges(Answer):
    """The requests of a route that are sent a second time beside the first."""

    after: Annotated[
        Seconds | None,
        Field(
            description="After so long without an answer; left out while too little is known. The longest of a split"
        ),
    ] = None
    made: Annotated[
        dict[str, Rate], Field(description="By what came of it: won, lost, failed or abandoned; none: left out")
    ]
    not_made: Annotated[
        dict[str, Rate], Field(description="Requests that were late enough and got none, by reason; none: left out")
    ]


class LiveRoute(Latency):
    """One route. The percentiles are what its clients see, refusals included."""

    service: Annotated[str, Field(description="With a split the first one")]
    split: Annotated[
        dict[str, LivePart] | None, Field(description="By upstream; left out where all requests go to `service`")
    ] = None
    requests: Rate
    failed: Rate
    too_many: Annotated[Rate, Field(description="Answered with 429")]
    fallbacks: Annotated[
        dict[str, Rate],
        Field(
            description="Requests that went on to a fallback, by its name: an upstream, stale (a last good answer) or "
            "response (the fixed one); none: left out. A request may go on more than once"
        ),
    ]
    hedges: Annotated[LiveHedges | None, Field(description="Left out where none are made")] = None


class LiveLimit(Answer):
    """The decisions of one rate limit."""

    allowed: Rate
    limited: Rate
    exempt: Rate


class LiveRedis(Answer):
    """The link to Redis, or without one to the embedded store of this host."""

    kind: Literal["redis", "embedded"]
    up: bool
    since: Instant
    replicas: Count
    error: str | None = None


class LiveWorker(Answer):
    """One worker process, as it told about a second ago."""

    state: Literal["starting", "ready", "draining", "stalled"]
    requests: Rate
    in_flight: Count
    connections: Count
    event_loop_lag: Seconds
    resident_bytes: int | None = None


class LiveGateway(Latency):
    """The gateway as a whole. The percentiles are what clients see, refusals included."""

    service: str
    version: str
    status: HealthWord
    reasons: Annotated[list[str], Field(description="What is wrong and what to do about it")]
    since: Instant
    requests: Rate
    failed: Rate
    too_many: Annotated[Rate, Field(description="Answered with 429")]
    shed: Annotated[Rate, Field(description="Turned away by the global caps")]
    in_flight: Count
    limit: Annotated[Count, Field(description="MAX_INFLIGHT")]
    connections: Count
    upstream_connections: Count
    active_alerts: Count
    store: LiveRedis | None = None
    workers: Annotated[dict[str, LiveWorker], Field(description="By number and pid")]
    workers_wanted: Count
    scope: Annotated[Scope, Field(description="Whose error rates the status is judged by")]


class LiveFault(Answer):
    """A fault on demand that attempts at an upstream meet now."""

    upstream: str
    route: Annotated[str | None, Field(description="Left out: every route")] = None
    endpoint: Annotated[str | None, Field(description="Left out: every endpoint")] = None
    client_header: Annotated[str | None, Field(description="Left out: all clients")] = None
    client_percent: Annotated[float | None, Field(description="Left out: all clients")] = None
    percent: float
    does: Annotated[str, Field(description="What it does, in words")]
    reason: str
    by: str
    source: Annotated[Literal["api", "key"], Field(description="key: a key of Redis, written by hand")]
    until: Instant


class LiveOutbox(Answer):
    """Messages in the journal, as of the last count."""

    pending: Count
    dead: Annotated[Count, Field(description="Given up")]
    oldest_seconds: Annotated[Seconds, Field(description="Age of the oldest that is pending")]


class LiveWorkflows(Answer):
    """Runs of workflows in the journal that have not ended, as of the last count."""

    open: Annotated[Count, Field(description="Stuck ones included")]
    stuck: Annotated[Count, Field(description="Only an operator can go on with them")]
    oldest_seconds: Annotated[Seconds, Field(description="Age of the oldest that is not stuck")]
    runs: Annotated[dict[str, dict[str, Count]], Field(description="By workflow and state")]


class Live(Answer):
    """Everything, at one instant."""

    time: Instant
    window_seconds: Annotated[float, Field(ge=0, description="0: the first look, before which nothing was counted")]
    gateway: LiveGateway
    services: dict[str, LiveService]
    routes: dict[str, LiveRoute]
    limits: dict[str, LiveLimit]
    faults: Annotated[dict[str, LiveFault], Field(description="Those of now, by id")]
    outbox: Annotated[LiveOutbox | None, Field(description="Left out where there is none")] = None
    workflows: Annotated[LiveWorkflows | None, Field(description="Left out where there are none")] = None

"""How the gateway treats an upstream: what the environment and an upstream of the file have in common (`Upstream`), and
what the file says beyond it (`FileUpstream`).

What an upstream of the file leaves out is filled in from the environment's settings before it is validated.
"""

import re
from typing import Annotated, Literal

from annotated_types import Interval, Len
from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.declaring import addresses
from gateway.config.declaring.field_types import FileName, Fraction, Host, Port, Share, Statuses, UpstreamUrl, UrlPath
from gateway.config.declaring.section import Allowed, Bytes, Env, Meaning, Seconds, Section
from gateway.config.sections.headers.settings import FieldChanges
from gateway.policy.outcome import FAILURE_STATUSES

_AUTHORITY = re.compile(r"[A-Za-z0-9._:\[\]-]+", re.ASCII)
_AUTHORITY_ALLOWED = "host or host:port"


def _authority(text: str) -> str:
    if _AUTHORITY.fullmatch(text) is None:
        addresses.reject(_AUTHORITY_ALLOWED)
    addresses.host_port(text, 1, _AUTHORITY_ALLOWED)
    return text


def _base_path(text: str) -> str:
    return addresses.path(text, addresses.PATH_ALLOWED).rstrip("/")


def _endpoint(value: object) -> object:
    if not isinstance(value, str):
        return value
    if "://" not in value:
        name, port = addresses.host_port(value, None, addresses.ENDPOINT_ALLOWED)
        return {"host": name, "port": port}
    scheme, name, port, path = addresses.endpoint_url(value, addresses.ENDPOINT_ALLOWED)
    if path:
        addresses.reject(addresses.ENDPOINT_ALLOWED)
    return {"host": name, "port": port, "scheme": scheme}


class Timeouts(Section):
    """Upstream: timeouts"""

    connect: Annotated[
        Seconds, Interval(ge=0.001, le=300), Env("UPSTREAM_CONNECT_TIMEOUT", "Time to connect, TLS included")
    ] = 2.0
    attempt: Annotated[
        Seconds, Interval(ge=0.001, le=3600), Env("UPSTREAM_TIMEOUT", "One attempt, up to the response head")
    ] = 10.0
    total: Annotated[
        Seconds,
        Interval(ge=0.001, le=3600),
        Env("UPSTREAM_TOTAL_TIMEOUT", "All attempts and the pauses between; at least UPSTREAM_TIMEOUT"),
    ] = 30.0
    idle: Annotated[
        Seconds, Interval(ge=0.1, le=3600), Env("UPSTREAM_IDLE_TIMEOUT", "Longest silence of an upstream within a body")
    ] = 60.0


class Tls(Section):
    """Upstream: TLS (https only)"""

    verify: Annotated[bool, Env("UPSTREAM_VERIFY_SSL", "Verify the upstream's certificate and host name")] = True
    ca_file: Annotated[
        FileName | None, Env("UPSTREAM_CA_FILE", "CA certificates for the upstream, PEM", "the system's")
    ] = None
    cert_file: Annotated[FileName | None, Env("UPSTREAM_CERT_FILE", "Our client certificate chain, PEM", "none")] = None
    key_file: Annotated[FileName | None, Env("UPSTREAM_KEY_FILE", "Its private key, PEM, not encrypted", "none")] = None
    server_name: Annotated[
        Host | None, Env("UPSTREAM_SERVER_NAME", "Name for SNI and verification", "the endpoint's host")
    ] = None


class Retry(Section):
    """Retries"""

    max_attempts: Annotated[
        int, Interval(ge=1, le=20), Env("RETRY_MAX_ATTEMPTS", "Attempts in all, the first included; 1 is no retries")
    ] = 3
    base_delay: Annotated[
        Seconds,
        Interval(ge=0, le=60),
        Env("RETRY_BASE_DELAY_SECONDS", "First pause, doubled each time; at most RETRY_MAX_DELAY_SECONDS"),
    ] = 0.1
    max_delay: Annotated[Seconds, Interval(ge=0, le=300), Env("RETRY_MAX_DELAY_SECONDS", "Longest pause")] = 2.0
    strategy: Annotated[Literal["exponential_jitter", "constant"], Env("RETRY_STRATEGY", "How the pauses grow")] = (
        "exponential_jitter"
    )
    statuses: Annotated[Statuses, Env("RETRY_STATUSES", "Upstream statuses worth another attempt")] = Field(
        default_factory=lambda: [502, 503, 504]
    )
    non_idempotent: Annotated[
        bool,
        Env(
            "RETRY_NON_IDEMPOTENT",
            "Retry a POST or PATCH too after it was sent: only where a second execution does no harm",
        ),
    ] = False
    budget_ratio: Annotated[
        Fraction, Env("RETRY_BUDGET_RATIO", "Retries as a share of requests over the last 10 s")
    ] = 0.2
    budget_min_per_second: Annotated[
        float, Interval(ge=0, le=10_000), Env("RETRY_BUDGET_MIN_PER_SECOND", "Retries a second that are always allowed")
    ] = 3.0


class Breaker(Section):
    """Circuit breaker"""

    failure_threshold: Annotated[
        int, Interval(ge=1, le=10_000), Env("CIRCUIT_BREAKER_FAILURE_THRESHOLD", "Consecutive failures that trip it")
    ] = 5
    failure_rate_threshold: Annotated[
        Share, Env("CIRCUIT_BREAKER_FAILURE_RATE_THRESHOLD", "Share of failures in the window that trips it")
    ] = 0.5
    window_size: Annotated[
        int, Interval(ge=1, le=100_000), Env("CIRCUIT_BREAKER_WINDOW_SIZE", "Calls that the window holds")
    ] = 100
    window_seconds: Annotated[
        Seconds, Interval(ge=1, le=3600), Env("CIRCUIT_BREAKER_WINDOW_SECONDS", "Age at which calls leave the window")
    ] = 60.0
    minimum_calls: Annotated[
        int,
        Interval(ge=1, le=100_000),
        Env("CIRCUIT_BREAKER_MINIMUM_CALLS", "Calls before rates count; at most CIRCUIT_BREAKER_WINDOW_SIZE"),
    ] = 20
    reset_timeout: Annotated[
        Seconds,
        Interval(ge=0.1, le=3600),
        Env("CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS", "From tripping to the first probe"),
    ] = 30.0
    half_open_max_probes: Annotated[
        int,
        Interval(ge=1, le=100),
        Env("CIRCUIT_BREAKER_HALF_OPEN_MAX_PROBES", "Probes at a time, over all replicas together"),
    ] = 1
    half_open_success_threshold: Annotated[
        int,
        Interval(ge=1, le=1000),
        Env("CIRCUIT_BREAKER_HALF_OPEN_SUCCESS_THRESHOLD", "Successful probes that close it"),
    ] = 2
    slow_call_threshold: Annotated[
        Annotated[Seconds, Interval(ge=0.001, le=3600)] | None,
        Env(
            "CIRCUIT_BREAKER_SLOW_CALL_THRESHOLD_SECONDS", "A call that takes longer is slow", "slow calls do not count"
        ),
    ] = None
    slow_call_rate_threshold: Annotated[
        Share, Env("CIRCUIT_BREAKER_SLOW_CALL_RATE_THRESHOLD", "Share of slow calls in the window that trips it")
    ] = 0.5


class Adaptive(Section):
    """Adaptive limit of the bulkhead"""

    mode: Annotated[
        Literal["off", "observe", "enforce"],
        Env("ADAPTIVE_LIMIT_MODE", "Find the limit from the times of answers: no, only to show it, or to use it"),
    ] = "off"
    min: Annotated[int, Interval(ge=1, le=1_000_000), Env("ADAPTIVE_LIMIT_MIN", "The lowest that it gets")] = 8
    initial: Annotated[
        int,
        Interval(ge=1, le=1_000_000),
        Env("ADAPTIVE_LIMIT_INITIAL", "Where it begins, and where it goes without answers; at most BULKHEAD_LIMIT"),
    ] = 64


class Bulkhead(Section):
    """Bulkhead"""

    limit: Annotated[int, Interval(ge=1, le=1_000_000), Env("BULKHEAD_LIMIT", "Requests in flight to one upstream")] = (
        1000
    )
    max_queue: Annotated[int, Interval(ge=0, le=1_000_000), Env("BULKHEAD_QUEUE", "Requests that may wait for it")] = 64
    queue_timeout: Annotated[
        Seconds, Interval(ge=0, le=60), Env("BULKHEAD_QUEUE_TIMEOUT_SECONDS", "Longest wait in that queue")
    ] = 0.25
    client_share: Annotated[
        Share, Env("BULKHEAD_QUEUE_CLIENT_SHARE", "Part of that queue that one client may have, rounded up; 1 is all")
    ] = 0.25
    adaptive: Adaptive = Adaptive()


class Ejection(Section):
    """Ejection of failing endpoints"""

    consecutive_failures: Annotated[
        int, Interval(ge=1, le=10_000), Env("EJECTION_CONSECUTIVE_FAILURES", "Failures in a row that eject an endpoint")
    ] = 5
    base_time: Annotated[
        Seconds,
        Interval(ge=0.1, le=3600),
        Env("EJECTION_BASE_TIME_SECONDS", "First absence; longer each time, at most EJECTION_MAX_TIME_SECONDS"),
    ] = 5.0
    max_time: Annotated[Seconds, Interval(ge=0.1, le=86_400), Env("EJECTION_MAX_TIME_SECONDS", "Longest absence")] = (
        60.0
    )
    max_fraction: Annotated[
        Fraction, Env("EJECTION_MAX_FRACTION", "Share of an upstream's endpoints that may be absent at once")
    ] = 0.5


class HealthCheck(Section):
    """Active health checks"""

    path: Annotated[
        UrlPath | None, Env("UPSTREAM_HEALTH_CHECK_PATH", "GET this path of every endpoint", "no active checks")
    ] = None
    interval: Annotated[
        Seconds, Interval(ge=0.1, le=3600), Env("UPSTREAM_HEALTH_CHECK_INTERVAL", "From one check to the next")
    ] = 5.0
    timeout: Annotated[
        Seconds,
        Interval(ge=0.01, le=300),
        Env("UPSTREAM_HEALTH_CHECK_TIMEOUT", "An answer must be in by then; at most the interval"),
    ] = 2.0
    healthy_threshold: Annotated[
        int, Interval(ge=1, le=100), Env("UPSTREAM_HEALTH_CHECK_HEALTHY_THRESHOLD", "Good checks that bring it back")
    ] = 2
    unhealthy_threshold: Annotated[
        int, Interval(ge=1, le=100), Env("UPSTREAM_HEALTH_CHECK_UNHEALTHY_THRESHOLD", "Bad checks that take it out")
    ] = 3


class Upstream(Section):
    """Upstream: connections"""

    balance: Annotated[
        Literal["least_in_flight", "round_robin"], Env("UPSTREAM_BALANCE", "How an endpoint is chosen")
    ] = "least_in_flight"
    max_connections: Annotated[
        int, Interval(ge=1, le=100_000), Env("UPSTREAM_MAX_CONNECTIONS", "Open connections to one endpoint")
    ] = 1024
    keepalive_timeout: Annotated[
        Seconds, Interval(ge=0, le=3600), Env("UPSTREAM_KEEPALIVE_SECONDS", "Idle connections close after it")
    ] = 30.0
    max_connection_age: Annotated[
        Seconds,
        Interval(ge=0, le=604_800),
        Env(
            "UPSTREAM_MAX_CONNECTION_AGE_SECONDS",
            "Connections are not used again after it, less up to 10 % for each; 0 is no bound",
        ),
    ] = 3600.0
    max_requests_per_connection: Annotated[
        int,
        Interval(ge=0, le=1_000_000_000),
        Env("UPSTREAM_MAX_REQUESTS_PER_CONNECTION", "Likewise, after so many requests; 0 is no bound"),
    ] = 1000
    dns_ttl: Annotated[
        Seconds, Interval(ge=0, le=86_400), Env("UPSTREAM_DNS_TTL_SECONDS", "How long a resolved name is believed")
    ] = 5.0
    dns_stale: Annotated[
        Seconds,
        Interval(ge=0, le=604_800),
        Env("UPSTREAM_DNS_STALE_SECONDS", "How long the last addresses are used while the name server is away"),
    ] = 86_400.0
    failure_statuses: Annotated[
        Statuses,
        Env("UPSTREAM_FAILURE_STATUSES", "Answers that count as failures: for circuit, ejection and error figures"),
    ] = Field(default_factory=lambda: sorted(FAILURE_STATUSES))
    honours_idempotency_key: Annotated[
        bool,
        Env(
            "UPSTREAM_HONOURS_IDEMPOTENCY_KEY",
            "The upstream processes requests with one Idempotency-Key once, so that a POST with a key may be repeated",
        ),
    ] = False
    timeouts: Timeouts = Timeouts()
    tls: Tls = Tls()
    retry: Retry = Retry()
    breaker: Breaker = Breaker()
    bulkhead: Bulkhead = Bulkhead()
    ejection: Ejection = Ejection()
    health_check: HealthCheck = HealthCheck()


class Tools(Section):
    """Tool services: the upstreams of the file with `tool: true`"""

    timeout: Annotated[
        Seconds,
        Interval(ge=0.001, le=3600),
        Env("TOOL_TIMEOUT", "What UPSTREAM_TIMEOUT is for others; all attempts together have at least as long"),
    ] = 30.0
    max_attempts: Annotated[
        int, Interval(ge=1, le=20), Env("TOOL_MAX_ATTEMPTS", "What RETRY_MAX_ATTEMPTS is for others")
    ] = 3


class RetryBuffer(Section):
    """Retries: request bodies"""

    buffer_bytes: Annotated[
        Bytes,
        Interval(ge=0, le=16_777_216),
        Env("RETRY_BUFFER_BYTES", "Most of a request body kept for a retry; larger ones are sent once"),
    ] = 65_536


class DefaultUpstream(Section):
    """Upstream"""

    url: Annotated[
        UpstreamUrl,
        Env(
            "UPSTREAM_URL", "Where /proxy/ goes: the endpoints of the upstream named default; never the gateway itself"
        ),
    ] = "http://127.0.0.1:5001"


class FileEndpoint(Section):
    """One endpoint of an upstream in the YAML file. Without a `scheme` it has that of its upstream."""

    host: Annotated[Host, Meaning("Where it is")]
    port: Annotated[Port, Meaning("Its TCP port")]
    weight: Annotated[
        int, Interval(ge=1, le=1000), Meaning("Its part of the requests, relative to the other endpoints")
    ] = 1
    scheme: Annotated[Literal["http", "https"] | None, Meaning("`http` or `https`", "that of the upstream")] = None


class FileUpstream(Upstream):
    """One upstream in the YAML file. A setting that is left out has the value of its variable."""

    endpoints: Annotated[
        list[Annotated[FileEndpoint, BeforeValidator(_endpoint), Allowed(addresses.ENDPOINT_ALLOWED)]],
        Len(1, 1000),
        Allowed(f"a list of at least one endpoint: {addresses.ENDPOINT_ALLOWED}"),
        Meaning('The addresses: `"host:port"`, `"http://host:port"` or `{host, port, weight}`; weight from 1 to 1000'),
    ]
    scheme: Annotated[
        Literal["http", "https"] | None, Meaning("`http` or `https`", "what the endpoints' URLs say, else `http`")
    ] = None
    base_path: Annotated[
        str,
        AfterValidator(_base_path),
        Allowed(addresses.PATH_ALLOWED),
        Meaning("Put in front of the forwarded path, byte for byte", "nothing"),
    ] = ""
    authority: Annotated[
        Annotated[str, AfterValidator(_authority), Allowed(_AUTHORITY_ALLOWED)] | None,
        Meaning("What `Host` says to the upstream", "the first endpoint's address"),
    ] = None
    tool: Annotated[
        bool, Meaning("Whether it is a tool service, which `TOOL_TIMEOUT` and `TOOL_MAX_ATTEMPTS` are for")
    ] = False
    request_headers: FieldChanges = FieldChanges()

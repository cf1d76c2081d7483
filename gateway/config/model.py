"""The effective configuration: immutable domain types, complete and valid.

Whatever the source (environment, `.env`, YAML), the rest of the program sees only these. Seconds are floats without a
suffix; any other unit has one. Nothing here reads a file or the environment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from gateway.config.console_model import ConsoleConfig
from gateway.config.deliver_model import DeliverConfig, OutboxLimits
from gateway.config.fallback_model import FallbackConfig
from gateway.config.fault_model import FaultsConfig
from gateway.config.headers_model import FieldChanges
from gateway.config.hooks_model import HookConfig, HookLimits
from gateway.config.idempotency_model import IdempotencyConfig, IdempotencyLimits
from gateway.config.identity_model import AllowConfig, IdentityConfig, Method
from gateway.config.mirror_model import MirrorConfig
from gateway.config.saga_model import SagaLimits
from gateway.config.shedding_model import SheddingConfig
from gateway.config.split_model import SplitConfig
from gateway.config.tracing_model import TracingConfig
from gateway.policy.adaptive import DEFAULT_GROUP, AdaptiveSettings
from gateway.policy.breaker import BreakerSettings
from gateway.policy.budget import BudgetSettings
from gateway.policy.ejection import EjectionSettings
from gateway.policy.limit import LimitSettings
from gateway.policy.outcome import FAILURE_STATUSES
from gateway.policy.priority import Priority
from gateway.policy.retry import RetrySettings
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.saga.workflow import Workflow
from gateway.syntax.hosts import Network

if TYPE_CHECKING:
    from gateway.validation.rules import Rules


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """One address of an upstream. `weight` is relative to the others of the same upstream (1 to 1000)."""

    host: str
    port: int
    weight: int = 1


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """TLS towards an upstream. `server_name` overrides the endpoint's host in SNI and in verification."""

    verify: bool = True
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    server_name: str | None = None


@dataclass(frozen=True, slots=True)
class HealthCheckConfig:
    """Active check of each endpoint: `GET path` every `interval`; healthy means a 2xx or 3xx within `timeout`."""

    path: str
    interval: float = 5.0
    timeout: float = 2.0
    healthy_threshold: int = 2
    unhealthy_threshold: int = 3


@dataclass(frozen=True, slots=True)
class UpstreamConfig:
    """A named service with one or more endpoints that are interchangeable.

    `attempt_timeout` bounds one attempt up to the response head (connecting included); `total_timeout` bounds all
    attempts and the delays between them up to the response head; `idle_timeout` bounds the silence within a body.
    `base_path` is put in front of the forwarded path, byte for byte, and does not end in a slash.
    `failure_statuses` are the answers that count as failures of the upstream: for its circuit, its endpoints and the
    error figures. `honours_idempotency_key` says that it processes requests with the same `Idempotency-Key` once.
    `authority` is what `Host` says to the upstream unless a route preserves the client's. `request_headers` None: it
    gets the fields of requests as they come. `adaptive` None: the limit of the bulkhead does not change.
    """

    name: str
    endpoints: tuple[EndpointConfig, ...]
    authority: str
    base_path: str = ""
    tls: UpstreamTls | None = None
    balance: Literal["least_in_flight", "round_robin"] = "least_in_flight"
    connect_timeout: float = 2.0
    attempt_timeout: float = 10.0
    total_timeout: float = 30.0
    idle_timeout: float = 60.0
    max_connections: int = 1024
    keepalive_timeout: float = 30.0
    failure_statuses: frozenset[int] = FAILURE_STATUSES
    honours_idempotency_key: bool = False
    max_connection_age: float = 3600.0
    max_requests_per_connection: int = 1000
    dns_ttl: float = 5.0
    dns_stale: float = 86_400.0
    retry: RetrySettings = field(default_factory=RetrySettings)
    budget: BudgetSettings = field(default_factory=BudgetSettings)
    breaker: BreakerSettings = field(default_factory=BreakerSettings)
    bulkhead: LimitSettings = field(default_factory=lambda: LimitSettings(1000, 64, 0.25, 0.25))
    adaptive: AdaptiveSettings | None = None
    ejection: EjectionSettings = field(default_factory=EjectionSettings)
    health_check: HealthCheckConfig | None = None
    request_headers: FieldChanges | None = None


@dataclass(frozen=True, slots=True)
class CorsConfig:
    """Which pages of other origins may call a route. Without `origins` that is the upstream's business, but for the
    gateway's own refusals: with `public_refusals` any page may read them, without credentials.

    `origins` are as browsers write them, `*` alone is all of them, and `https://*.a.example` all below a name. Empty
    `methods` and `headers` allow what is asked for. `expose` comes on top of the gateway's own fields. `max_age` in
    seconds is how long a preflight's answer may be kept.
    """

    origins: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    expose: tuple[str, ...] = ()
    credentials: bool = False
    max_age: float = 600.0
    public_refusals: bool = True


@dataclass(frozen=True, slots=True)
class RouteValidation:
    """What the requests of a route must be. With `enforce` False what is invalid is counted and passes. No more than
    `max_body_bytes` of a body are held. `refuse_unknown` is about operations that the rules do not know."""

    file: str
    rules: "Rules" = field(repr=False, compare=False)
    enforce: bool = True
    max_body_bytes: int = 1_048_576
    refuse_unknown: bool = True


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """Which requests go to which upstream.

    A route matches on host (None: any) and on the longest path prefix, whole segments only: `/api` matches `/api`
    and `/api/x`, not `/apix`; `/api/` matches only what is below it. `strip_prefix` removes the prefix (the rest
    begins with a slash) before the upstream's `base_path` is put in front. `methods` None means all.
    `max_body_bytes` None means unlimited. `max_tunnels` caps the open WebSocket tunnels of this route,
    `tunnel_client_share` is the part of them that one client may have, above 0 and up to 1. A side of a tunnel may take
    nothing, or leave a Ping without an answer, for `tunnel_stall_timeout`; the Ping comes after `tunnel_ping_interval`
    of silence, 0 for never. When `backpressure_threshold` of `tunnel_buffer_bytes` wait for a side, the other one is
    not read. `path_dots` says what becomes of paths with dot segments (gateway.proxy.dots), `rewrite_redirects` whether
    redirects to the address of the upstream are translated (gateway.proxy.redirects). `authentication` are the ways in
    which a request may prove who sends it; one of them is enough, and without any everybody may ask. `allow` says whom
    the route is for then. `issuers` are those whose tokens count where `jwt` is one of the ways, all of them where it
    is empty; with `forward_token` the upstream gets the token, too. `idempotency` None: an
    `Idempotency-Key` means nothing here. `deliver` None: requests go to the upstream at once. `fallback` None: what the
    upstream does not answer is refused. A `split` shares the requests among several upstreams; `upstream` is the first
    of them. A `mirror` gets copies of them. `request_headers` and `response_headers` None: fields pass as they come.
    `rewrites` are templates of paths and of what they become (`gateway.syntax.path_template`); the first that matches
    counts. With a `workflow` they start runs of it, and `upstream` is that of its first step. `priority` None: nobody
    has said how much its requests matter. Routes of one upstream with the same `latency_group` have answers whose times
    are comparable.
    """

    name: str
    prefix: str
    upstream: str
    host: str | None = None
    methods: frozenset[str] | None = None
    strip_prefix: bool = False
    preserve_host: bool = False
    rate_limit: str | None = "default"
    priority: Priority | None = None
    latency_group: str = DEFAULT_GROUP
    websocket: bool = False
    max_tunnels: int = 1000
    tunnel_idle_timeout: float = 300.0
    tunnel_client_share: float = 0.8
    tunnel_stall_timeout: float = 30.0
    tunnel_ping_interval: float = 30.0
    tunnel_buffer_bytes: int = 131_072
    backpressure_threshold: float = 0.8
    max_body_bytes: int | None = None
    path_dots: Literal["refuse", "pass"] = "refuse"
    rewrite_redirects: bool = True
    authentication: tuple[Method, ...] = ()
    allow: AllowConfig = field(default_factory=AllowConfig)
    issuers: tuple[str, ...] = ()
    forward_token: bool = True
    cors: CorsConfig = field(default_factory=CorsConfig)
    idempotency: IdempotencyConfig | None = None
    validation: RouteValidation | None = None
    deliver: DeliverConfig | None = None
    fallback: FallbackConfig | None = None
    split: SplitConfig | None = None
    mirror: MirrorConfig | None = None
    rewrites: tuple[tuple[str, str], ...] = ()
    request_headers: FieldChanges | None = None
    response_headers: FieldChanges | None = None
    workflow: Workflow | None = None
    hooks: tuple[HookConfig, ...] = ()

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Where its requests go in the first place."""
        return (self.upstream,) if self.split is None else self.split.upstreams


@dataclass(frozen=True, slots=True)
class ValidationConfig:
    """What is the same for all routes that validate: whether they may refuse anything (`strict`), seconds for a large
    body, and whether each invalid request has a line in the application log."""

    strict: bool = True
    timeout: float = 1.0
    log_errors: bool = False


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """The paths of the listener's certificate chain and of its private key, both in PEM."""

    cert_file: str
    key_file: str


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The listening side. `host` empty means every address, IPv4 and IPv6.

    `client_idle_timeout` bounds the silence of a client within a request body, and the time in which it takes
    nothing of a response that waits for it. The data rates are bytes a second on average, 0 for none; no body is
    judged by its rate within `data_rate_grace`. `request_body_timeout` bounds a request body in all, 0 for never.
    `drain_delay` is the pause between `/readyz` turning 503 and the listener closing; `drain_timeout` is how long
    exchanges in flight then have. `tunnel_drain` is what tunnels have when their worker is replaced.
    """

    host: str = ""
    port: int = 5000
    tls: ListenerTls | None = None
    max_connections: int = 20_000
    max_request_line_bytes: int = 8192
    max_header_bytes: int = 32_768
    max_header_count: int = 100
    header_timeout: float = 10.0
    keepalive_timeout: float = 75.0
    client_idle_timeout: float = 60.0
    min_request_body_data_rate: int = 240
    min_response_data_rate: int = 240
    data_rate_grace: float = 5.0
    request_body_timeout: float = 0.0
    drain_delay: float = 0.0
    drain_timeout: float = 30.0
    tunnel_drain: float = 60.0
    trusted_proxies: tuple[Network, ...] = ()
    underscores: Literal["pass", "drop"] = "pass"
    via_name: str = "gateway"
    server_timing: bool = False


@dataclass(frozen=True, slots=True)
class RateLimitConfig:
    """Named token buckets and how their state is shared. `legacy_headers` adds the `X-RateLimit-*` trio. Clients of the
    networks in `exempt` are not limited by any."""

    policies: Mapping[str, RateLimitPolicy]
    on_redis_failure: Literal["local", "open", "closed"] = "local"
    legacy_headers: bool = True
    exempt: tuple[Network, ...] = ()


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """Where the shared state lives. `addresses` are servers, sentinels or cluster nodes, according to `mode`.

    A command may take `timeout` seconds, or more where Redis usually takes more, up to `timeout_max`; it is what a
    request may lose once to a dead Redis.
    """

    mode: Literal["single", "sentinel", "cluster"]
    addresses: tuple[tuple[str, int], ...]
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_verify: bool = True
    tls_ca_file: str | None = None
    master_name: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    timeout: float = 0.05
    timeout_max: float = 0.25
    key_prefix: str = "api-gateway"


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """Where promises are kept that survive a crash. `path` is that of a SQLite file; None means PostgreSQL at `url`.
    `timeout` in seconds bounds one operation. `connections` is how many each worker has to PostgreSQL."""

    url: str = field(default="sqlite:///var/journal.db", repr=False)
    path: str | None = "var/journal.db"
    timeout: float = 2.0
    connections: int = 8


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where logs go and how they are written. `dir` None means standard output only; files are kept for
    `retention_days` and begun anew beyond `max_file_bytes`."""

    level: str = "INFO"
    format: Literal["json", "text"] = "json"
    access_log: bool = True
    dir: str | None = None
    retention_days: int = 14
    max_file_bytes: int = 268_435_456


@dataclass(frozen=True, slots=True)
class ErrorsConfig:
    """Error records and alerts.

    Rates are from 0 to 1. Alerts are judged by the figures of `window`, in which a rate says nothing before there are
    `minimum_requests`. `recent_max` bounds the records that are kept, by each process and by the fleet.
    """

    recent_max: int = 1000
    check_interval: float = 15.0
    window: float = 60.0
    high_errors_per_minute: float = 10.0
    high_error_rate: float = 0.05
    critical_error_rate: float = 0.5
    minimum_requests: int = 20
    resolve_after: float = 30.0
    retention_hours: float = 24.0
    webhook_url: str | None = field(default=None, repr=False)
    webhook_secret: str | None = field(default=None, repr=False)
    webhook_timeout: float = 5.0


@dataclass(frozen=True, slots=True)
class WorkersConfig:
    """`count` processes serve requests, 0 is one for each core that may be used. One that gives no sign of life for
    `stall` seconds is replaced."""

    count: int = 1
    stall: float = 10.0


@dataclass(frozen=True, slots=True)
class AdminConfig:
    """Who may change things, and where the control plane listens.

    `token` None: only direct loopback peers may. `port` None: the control plane shares the listener's port; otherwise
    everything of it but health is on `port` of `host` alone.
    """

    token: str | None = field(default=None, repr=False)
    port: int | None = None
    host: str = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class GatewayConfig:
    """Everything. `redis` None means the embedded store: shared by the workers of this host, and with no other.
    `journal_needed` says that a route promises something that only the journal can keep."""

    service: str
    environment: str
    server: ServerConfig
    shedding: SheddingConfig
    rate_limits: RateLimitConfig
    upstreams: Mapping[str, UpstreamConfig]
    routes: tuple[RouteConfig, ...]
    redis: RedisConfig | None
    log: LogConfig
    errors: ErrorsConfig = field(default_factory=ErrorsConfig)
    admin: AdminConfig = field(default_factory=AdminConfig)
    retry_buffer_bytes: int = 65_536
    workers: WorkersConfig = field(default_factory=WorkersConfig)
    identity: IdentityConfig = field(default_factory=IdentityConfig)
    journal: JournalConfig = field(default_factory=JournalConfig)
    journal_needed: bool = False
    idempotency: IdempotencyLimits = field(default_factory=IdempotencyLimits)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    outbox: OutboxLimits = field(default_factory=OutboxLimits)
    tracing: TracingConfig = field(default_factory=TracingConfig)
    console: ConsoleConfig = field(default_factory=ConsoleConfig)
    workflows: Mapping[str, Workflow] = field(default_factory=dict)
    sagas: SagaLimits = field(default_factory=SagaLimits)
    faults: FaultsConfig = field(default_factory=FaultsConfig)
    hooks: HookLimits = field(default_factory=HookLimits)

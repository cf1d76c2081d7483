"""Every setting: its variable, type, range, default and meaning, declared once.

Sections that an upstream, a route or a rate limit of the file may override (`Upstream`, `RouteDefaults`, `RateLimit`)
serve as the schema of the file as well (`gateway.config.file`). Field names are those of the domain types in
`gateway.config.model` wherever there is a counterpart, so that a setting nothing reads fails at assembly.
"""

from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import BeforeValidator, Field

from gateway.config.console_settings import Console
from gateway.config.deliver_settings import Outbox
from gateway.config.fault_settings import Faults
from gateway.config.field_types import (
    Address,
    AdminToken,
    DirectoryName,
    FileName,
    Host,
    KeyPrefix,
    Name,
    Port,
    ProxyNetwork,
    RedisUrl,
    Share,
    UpstreamUrl,
    ViaName,
    WebhookUrl,
)
from gateway.config.hooks_settings import Hooks
from gateway.config.idempotency_settings import IdempotencyRecords
from gateway.config.identity_settings import Identity
from gateway.config.journal_settings import Journal
from gateway.config.route_settings import RouteDefaults
from gateway.config.schema import Bytes, Env, Hours, Seconds, Section, Unit
from gateway.config.shedding_settings import Shedding
from gateway.config.tracing_settings import Tracing
from gateway.config.upstream_settings import RetryBuffer, Tools, Upstream
from gateway.config.validation_settings import Validation
from gateway.config.worker_settings import Workers
from gateway.config.workflow_settings import Sagas


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


class Process(Section):
    """The process"""

    service_name: Annotated[Name, Env("SERVICE_NAME", "The `service` label of metrics and logs")] = "gateway"
    environment: Annotated[Name, Env("ENVIRONMENT", "Where this runs, as logs and health say it")] = "development"
    config_file: Annotated[
        FileName | None, Env("GATEWAY_CONFIG", "YAML file with upstreams, rate limits and routes", "no file")
    ] = None


class Log(Section):
    """Logs"""

    level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
        BeforeValidator(_upper),
        Env("LOG_LEVEL", "Least level of the application log, in any case"),
    ] = "INFO"
    format: Annotated[Literal["json", "text"], Env("LOG_FORMAT", "json for machines, text for people")] = "json"
    access_log: Annotated[bool, Env("ACCESS_LOG", "One line for every request")] = True
    dir: Annotated[
        DirectoryName | None,
        Env("LOG_DIR", "Logs also go to gateway-YYYYMMDD.log and errors-YYYYMMDD.log in it, as JSON", "no files"),
    ] = None
    retention_days: Annotated[
        int, Interval(ge=1, le=3650), Env("LOG_RETENTION_DAYS", "Days whose files are kept there, today included")
    ] = 14
    max_file_bytes: Annotated[
        Bytes,
        Interval(ge=65_536, le=1_099_511_627_776),
        Env("LOG_MAX_FILE_BYTES", "Larger files are set aside; the newest 8 of a day are kept"),
    ] = 268_435_456


class Errors(Section):
    """Errors and alerts"""

    recent_max: Annotated[
        int, Interval(ge=1, le=10_000), Env("ERRORS_RECENT_MAX", "Latest errors kept, by each process and by the fleet")
    ] = 1000
    check_interval: Annotated[
        Seconds, Interval(ge=0.1, le=3600), Env("ALERT_CHECK_INTERVAL_SECONDS", "From one check for alerts to the next")
    ] = 15.0
    window: Annotated[
        Seconds, Interval(ge=10, le=3600), Env("ALERT_WINDOW_SECONDS", "Time over which the check looks at errors")
    ] = 60.0
    high_errors_per_minute: Annotated[
        float,
        Interval(ge=0, le=1_000_000),
        Env("ALERT_HIGH_ERRORS_PER_MINUTE", "Errors a minute of a service beyond which it has a high error rate"),
    ] = 10.0
    high_error_rate: Annotated[
        Share, Env("ALERT_HIGH_ERROR_RATE", "Share of failed requests beyond which it has one too")
    ] = 0.05
    critical_error_rate: Annotated[
        Share, Env("ALERT_CRITICAL_ERROR_RATE", "Share of failed requests from which it is critical")
    ] = 0.5
    minimum_requests: Annotated[
        int, Interval(ge=1, le=1_000_000), Env("ALERT_MINIMUM_REQUESTS", "Requests before shares count")
    ] = 20
    resolve_after: Annotated[
        Seconds,
        Interval(ge=0, le=3600),
        Env("ALERT_RESOLVE_AFTER_SECONDS", "An alert ends when nothing has spoken for it for so long"),
    ] = 30.0
    retention_hours: Annotated[
        Hours,
        Interval(ge=0, le=8760),
        Env("ALERT_RETENTION_HOURS", "Time for which alerts that have ended are kept"),
    ] = 24.0
    webhook_url: Annotated[
        WebhookUrl | None,
        Env("ALERT_WEBHOOK_URL", "Where alerts are sent when they are raised and resolved", "nowhere", secret=True),
    ] = Field(default=None, repr=False)
    webhook_secret: Annotated[
        str | None, Env("ALERT_WEBHOOK_SECRET", "Key of the HMAC-SHA256 signature", "not signed", secret=True)
    ] = Field(default=None, repr=False)
    webhook_timeout: Annotated[
        Seconds, Interval(ge=0.1, le=60), Env("ALERT_WEBHOOK_TIMEOUT_SECONDS", "Bounds one attempt to deliver")
    ] = 5.0


class Server(Section):
    """The listener"""

    host: Annotated[Host, Env("HOST", "Address to listen on", "every address, IPv4 and IPv6")] = ""
    port: Annotated[Port, Env("PORT", "TCP port to listen on")] = 5000
    tls_cert_file: Annotated[
        FileName | None, Env("TLS_CERT_FILE", "Certificate chain of the listener, PEM", "plain HTTP")
    ] = None
    tls_key_file: Annotated[
        FileName | None, Env("TLS_KEY_FILE", "Private key of the listener, PEM, not encrypted", "plain HTTP")
    ] = None
    max_connections: Annotated[
        int, Interval(ge=1, le=1_000_000), Env("MAX_CONNECTIONS", "Open client connections in all")
    ] = 20_000
    max_request_line_bytes: Annotated[
        Bytes, Interval(ge=256, le=65_536), Env("MAX_REQUEST_LINE_BYTES", "Longest request line; beyond it 414")
    ] = 8192
    max_header_bytes: Annotated[
        Bytes, Interval(ge=1024, le=1_048_576), Env("MAX_HEADER_BYTES", "Largest header section; beyond it 431")
    ] = 32_768
    max_header_count: Annotated[
        int, Interval(ge=8, le=1000), Env("MAX_HEADER_COUNT", "Most header fields; beyond it 431")
    ] = 100
    header_timeout: Annotated[
        Seconds, Interval(ge=0.1, le=600), Env("HEADER_TIMEOUT_SECONDS", "Time for a whole request head; then 408")
    ] = 10.0
    keepalive_timeout: Annotated[
        Seconds, Interval(ge=0.1, le=3600), Env("KEEPALIVE_TIMEOUT_SECONDS", "Idle client connections close after it")
    ] = 75.0
    client_idle_timeout: Annotated[
        Seconds,
        Interval(ge=0.1, le=3600),
        Env("CLIENT_IDLE_TIMEOUT_SECONDS", "Longest silence of a client within a body, either way"),
    ] = 60.0
    min_request_body_data_rate: Annotated[
        int,
        Interval(ge=0, le=1_000_000_000),
        Unit("bytes a second"),
        Env("MIN_REQUEST_BODY_DATA_RATE", "Least rate of a request body on average; below it 408; 0 is none"),
    ] = 240
    min_response_data_rate: Annotated[
        int,
        Interval(ge=0, le=1_000_000_000),
        Unit("bytes a second"),
        Env("MIN_RESPONSE_DATA_RATE", "Least rate at which a client takes a response that waits for it; 0 is none"),
    ] = 240
    data_rate_grace: Annotated[
        Seconds,
        Interval(ge=0.1, le=3600),
        Env("DATA_RATE_GRACE_SECONDS", "Time before a body is judged by its rate"),
    ] = 5.0
    request_body_timeout: Annotated[
        Seconds,
        Interval(ge=0, le=86_400),
        Env("REQUEST_BODY_TIMEOUT_SECONDS", "Longest time for a request body in all; then 408; 0 is no limit"),
    ] = 0.0
    drain_delay: Annotated[
        Seconds, Interval(ge=0, le=600), Env("DRAIN_DELAY_SECONDS", "From /readyz turning 503 to the listener closing")
    ] = 0.0
    drain_timeout: Annotated[
        Seconds, Interval(ge=0, le=3600), Env("DRAIN_TIMEOUT_SECONDS", "What requests in flight then have to finish")
    ] = 30.0
    tunnel_drain: Annotated[
        Seconds,
        Interval(ge=0, le=86_400),
        Env("TUNNEL_DRAIN_SECONDS", "What WebSocket tunnels of a replaced worker have, before they are closed (1001)"),
    ] = 60.0
    trusted_proxies: Annotated[
        list[ProxyNetwork],
        Env("TRUSTED_PROXIES", "Peers whose X-Forwarded-For counts", "nobody is trusted"),
    ] = Field(default_factory=list)
    underscores: Annotated[
        Literal["pass", "drop"],
        Env(
            "HEADERS_WITH_UNDERSCORES",
            "Fields with _ in their name; those that could be taken for the gateway's own are always dropped",
        ),
    ] = "pass"
    via_name: Annotated[
        ViaName,
        Env("VIA_NAME", "Our name in Via; seeing it again is 508"),
    ] = "gateway"
    server_timing: Annotated[
        bool, Env("SERVER_TIMING", "Answers say in Server-Timing how long they took, and their upstream")
    ] = False


class Admin(Section):
    """The control plane"""

    token: Annotated[
        AdminToken | None,
        Env(
            "ADMIN_TOKEN",
            "What a request that changes something must bear",
            "only from loopback, in production nobody",
            secret=True,
        ),
    ] = Field(default=None, repr=False)
    port: Annotated[
        Port | None,
        Env("ADMIN_PORT", "TCP port of the control plane; /health, /livez and /readyz are on both", "the same as PORT"),
    ] = None
    host: Annotated[Host, Env("ADMIN_HOST", "Address to listen on with ADMIN_PORT")] = "127.0.0.1"


class RateLimit(Section):
    """A token bucket for each client"""

    capacity: Annotated[
        int, Interval(ge=1, le=10_000_000), Env("RATE_LIMIT_CAPACITY", "Tokens a client's bucket holds at most")
    ] = 50
    refill_rate: Annotated[
        float, Interval(ge=0.001, le=10_000_000), Env("RATE_LIMIT_REFILL_RATE", "Tokens that come back each second")
    ] = 20.0
    ttl: Annotated[
        Seconds,
        Interval(ge=1, le=604_800),
        Env("RATE_LIMIT_TTL", "Longest time an idle bucket is kept; at least capacity / refill rate"),
    ] = 3600.0


class RateLimits(RateLimit):
    """Rate limit (token bucket per client)"""

    enabled: Annotated[bool, Env("RATE_LIMIT_ENABLED", "false takes the rate limit off every route")] = True
    on_redis_failure: Annotated[
        Literal["local", "open", "closed"],
        Env("RATE_LIMIT_ON_REDIS_FAILURE", "Without Redis: limit locally, let all through, or refuse all"),
    ] = "local"
    exempt: Annotated[
        list[ProxyNetwork], Env("RATE_LIMIT_EXEMPT", "Clients that no rate limit is for", "nobody is exempt")
    ] = Field(default_factory=list)
    legacy_headers: Annotated[
        bool, Env("RATE_LIMIT_LEGACY_HEADERS", "Send X-RateLimit-Limit, -Remaining and -Reset too")
    ] = True


class Redis(Section):
    """Redis (no URL, host, sentinels or cluster nodes: the embedded store, shared on this host alone)"""

    url: Annotated[
        RedisUrl | None,
        Env("REDIS_URL", "One server as a URL; rediss:// is TLS", "not this way"),
    ] = None
    host: Annotated[Host | None, Env("REDIS_HOST", "One server by its parts", "not this way")] = None
    port: Annotated[Port, Env("REDIS_PORT", "Its port")] = 6379
    db: Annotated[int, Interval(ge=0, le=9999), Env("REDIS_DB", "Database number; 0 with a cluster")] = 0
    username: Annotated[str | None, Env("REDIS_USERNAME", "ACL user", "Redis' default user")] = None
    password: Annotated[str | None, Env("REDIS_PASSWORD", "Password", "none", secret=True)] = Field(
        default=None, repr=False
    )
    timeout: Annotated[
        Seconds,
        Interval(ge=0.001, le=5),
        Env("REDIS_TIMEOUT", "Bounds every command to a Redis that is usually faster"),
    ] = 0.05
    timeout_max: Annotated[
        Seconds,
        Interval(ge=0.001, le=5),
        Env("REDIS_TIMEOUT_MAX", "Where Redis usually takes longer the bound follows it, up to this"),
    ] = 0.25
    tls: Annotated[bool, Env("REDIS_TLS", "TLS towards Redis")] = False
    tls_verify: Annotated[bool, Env("REDIS_TLS_VERIFY", "Verify the certificate and host name of Redis")] = True
    tls_ca_file: Annotated[
        FileName | None, Env("REDIS_TLS_CA_FILE", "CA certificates for Redis, PEM", "the system's")
    ] = None
    sentinels: Annotated[
        list[Address], Env("REDIS_SENTINELS", "The sentinels; port 26379 if not given", "not this way")
    ] = Field(default_factory=list)
    master_name: Annotated[
        Name | None, Env("REDIS_SENTINEL_MASTER", "Name of the master that the sentinels watch", "none")
    ] = None
    sentinel_username: Annotated[str | None, Env("REDIS_SENTINEL_USERNAME", "ACL user of the sentinels", "none")] = None
    sentinel_password: Annotated[
        str | None, Env("REDIS_SENTINEL_PASSWORD", "Password of the sentinels", "none", secret=True)
    ] = Field(default=None, repr=False)
    cluster_nodes: Annotated[
        list[Address],
        Env("REDIS_CLUSTER_NODES", "Some nodes of a cluster; port 6379 if not given", "not this way"),
    ] = Field(default_factory=list)
    key_prefix: Annotated[
        KeyPrefix,
        Env("REDIS_KEY_PREFIX", "First part of every key; equal for all replicas of one gateway"),
    ] = "api-gateway"


class DefaultUpstream(Section):
    """Upstream"""

    url: Annotated[
        UpstreamUrl,
        Env(
            "UPSTREAM_URL", "Where /proxy/ goes: the endpoints of the upstream named default; never the gateway itself"
        ),
    ] = "http://127.0.0.1:5001"


class Settings(Section):
    """All that the environment can say.

    It reads nothing itself: `gateway.config.variables` merges the environment and `.env`, because a message must know
    which of the two, and which line, a value came from.
    """

    process: Process = Field(default_factory=Process)
    workers: Workers = Field(default_factory=Workers)
    log: Log = Field(default_factory=Log)
    errors: Errors = Field(default_factory=Errors)
    tracing: Tracing = Field(default_factory=Tracing)
    server: Server = Field(default_factory=Server)
    admin: Admin = Field(default_factory=Admin)
    console: Console = Field(default_factory=Console)
    routes: RouteDefaults = Field(default_factory=RouteDefaults)
    identity: Identity = Field(default_factory=Identity)
    shedding: Shedding = Field(default_factory=Shedding)
    rate_limit: RateLimits = Field(default_factory=RateLimits)
    redis: Redis = Field(default_factory=Redis)
    journal: Journal = Field(default_factory=Journal)
    idempotency: IdempotencyRecords = Field(default_factory=IdempotencyRecords)
    outbox: Outbox = Field(default_factory=Outbox)
    sagas: Sagas = Field(default_factory=Sagas)
    default_upstream: DefaultUpstream = Field(default_factory=DefaultUpstream)
    upstream: Upstream = Field(default_factory=Upstream)
    tools: Tools = Field(default_factory=Tools)
    retry_buffer: RetryBuffer = Field(default_factory=RetryBuffer)
    validation: Validation = Field(default_factory=Validation)
    faults: Faults = Field(default_factory=Faults)
    hooks: Hooks = Field(default_factory=Hooks)

"""The effective configuration: immutable domain types, complete and valid.

The types of each section are in its `model` module in `gateway.config.sections`. Whatever the source (environment,
`.env`, YAML), the rest of the program sees only these. Seconds are floats without a suffix; any other unit has one.
Nothing in them reads a file or the environment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from gateway.config.sections.admin.model import AdminConfig
from gateway.config.sections.console.model import ConsoleConfig
from gateway.config.sections.deliver.model import OutboxLimits
from gateway.config.sections.errors.model import ErrorsConfig
from gateway.config.sections.faults.model import FaultsConfig
from gateway.config.sections.hooks.model import HookLimits
from gateway.config.sections.idempotency.model import IdempotencyLimits
from gateway.config.sections.identity.model import IdentityConfig
from gateway.config.sections.journal.model import JournalConfig, SqliteConfig
from gateway.config.sections.log.model import LogConfig
from gateway.config.sections.rate_limits.model import RateLimitConfig
from gateway.config.sections.redis.model import RedisConfig
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.server.model import ServerConfig
from gateway.config.sections.shedding.model import SheddingConfig
from gateway.config.sections.tracing.model import TracingConfig
from gateway.config.sections.upstreams.model import UpstreamConfig
from gateway.config.sections.validation.model import ValidationConfig
from gateway.config.sections.workers.model import WorkersConfig
from gateway.config.sections.workflows.model import SagaLimits
from gateway.saga.workflow import Workflow


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
    journal: JournalConfig = field(default_factory=SqliteConfig)
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

"""All that the environment can say, section by section.

The sections are declared in `gateway.config.sections`, each in its `settings` module: variable, type, range, default
and meaning of every setting. Those that an upstream, a route or a rate limit of the file may override (`Upstream`,
`RouteDefaults`, `RateLimit`) serve as the schema of the file as well. Field names are those of the domain types in the
`model` module beside them wherever there is a counterpart, so that a setting nothing reads fails at assembly.
"""

from pydantic import Field

from gateway.config.declaring.section import Section
from gateway.config.sections.admin.settings import Admin
from gateway.config.sections.console.settings import Console
from gateway.config.sections.deliver.settings import Outbox
from gateway.config.sections.errors.settings import Errors
from gateway.config.sections.faults.settings import Faults
from gateway.config.sections.hooks.settings import Hooks
from gateway.config.sections.idempotency.settings import IdempotencyRecords
from gateway.config.sections.identity.settings import Identity
from gateway.config.sections.journal.settings import Journal
from gateway.config.sections.log.settings import Log
from gateway.config.sections.process.settings import Process
from gateway.config.sections.rate_limits.settings import RateLimits
from gateway.config.sections.redis.settings import Redis
from gateway.config.sections.routes.settings import RouteDefaults
from gateway.config.sections.server.settings import Server
from gateway.config.sections.shedding.settings import Shedding
from gateway.config.sections.tracing.settings import Tracing
from gateway.config.sections.upstreams.settings import DefaultUpstream, RetryBuffer, Tools, Upstream
from gateway.config.sections.validation.settings import Validation
from gateway.config.sections.workers.settings import Workers
from gateway.config.sections.workflows.settings import Sagas


class Settings(Section):
    """All that the environment can say.

    It reads nothing itself: `gateway.config.building.variables` merges the environment and `.env`, because a message
    must know which of the two, and which line, a value came from.
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

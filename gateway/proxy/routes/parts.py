"""What gates and filters are made of (`gateway.proxy.routes.kinds`)."""

import asyncio
import random
from typing import NamedTuple

from gateway.config.model import GatewayConfig
from gateway.fleet.limiter import Limiter
from gateway.idempotency.claims import Claims
from gateway.journal.depth import Depth
from gateway.journal.outbox_backlog import Backlog
from gateway.journal.port import Journal
from gateway.journal.sagas import OpenRuns
from gateway.proxy.destinations.split import Split
from gateway.proxy.filters.debug import DebugToken
from gateway.proxy.gates.adaptive_limit import AdaptiveLimitGate
from gateway.proxy.gates.authentication import AuthenticationParts
from gateway.proxy.gates.bulkhead import BulkheadGate
from gateway.proxy.gates.circuit import CircuitGate
from gateway.proxy.gates.client_share import ClientShareGate
from gateway.proxy.gates.idempotency import IdempotencyGate
from gateway.proxy.gates.in_flight import InFlightGate
from gateway.proxy.gates.rate_limit import RateLimitGate
from gateway.proxy.gates.tenant import TenantGate
from gateway.proxy.gates.validation import ValidationParts
from gateway.proxy.gates.workflow import Runs
from gateway.proxy.recorder import Recorder
from gateway.proxy.requests.query_key import QueryKey
from gateway.proxy.upstreams.upstream import Upstream


class CallerParts(NamedTuple):
    """What the gates of routes with authentication are made of; the tenant gate is shared."""

    authentication: AuthenticationParts
    tenant: TenantGate
    query_key: QueryKey | None = None
    """None: no key counts in the query."""


class OutboxParts(NamedTuple):
    """What the gates of routes that deliver are made of."""

    journal: Journal
    depth: Depth[Backlog]


class SagaParts(NamedTuple):
    """What the gates of routes with a workflow are made of."""

    journal: Journal
    depth: Depth[OpenRuns]
    runs: Runs


class Parts:
    """What gates and filters are made of, and those that routes share. `callers` None: no route has authentication.
    `claims` None: no route keeps answers for idempotency keys; `idempotency` has the gates of those that do.
    `validation` None: none validates. `outbox` None: no route delivers. `sagas` None: no route has a
    workflow. `splits` are those of the routes that have one."""

    def __init__(
        self,
        config: GatewayConfig,
        upstreams: dict[str, Upstream],
        in_flight: InFlightGate,
        limiter: Limiter,
        recorder: Recorder,
        rng: random.Random,
        loop: asyncio.AbstractEventLoop,
        callers: CallerParts | None = None,
        claims: Claims | None = None,
        validation: ValidationParts | None = None,
        outbox: OutboxParts | None = None,
        sagas: SagaParts | None = None,
    ) -> None:
        self.config = config
        self.claims = claims
        self.outbox = outbox
        self.sagas = sagas
        self.idempotency: dict[str, IdempotencyGate] = {}
        self.splits: dict[str, Split] = {}
        self.validation = validation
        self.callers = callers
        self.upstreams = upstreams
        self.in_flight = in_flight
        self.limiter = limiter
        self.recorder = recorder
        self.rng = rng
        self.loop = loop
        shedding = config.shedding
        self.client_share = ClientShareGate(shedding, in_flight) if shedding.client_share < 1.0 else None
        self.debug = None if config.admin.token is None else DebugToken(config.admin.token)
        self.rate_limits = {
            name: RateLimitGate(limiter, policy, recorder) for name, policy in config.rate_limits.policies.items()
        }
        self.bulkheads = {
            name: BulkheadGate(name, each.bulkhead, recorder, rng, loop, each.adaptive)
            for name, each in upstreams.items()
        }
        self.adaptive_limits: dict[tuple[str, str], AdaptiveLimitGate] = {}
        self.circuits = {
            name: CircuitGate(name, each.circuit, each.config.breaker, config.retry_buffer_bytes)
            for name, each in upstreams.items()
        }

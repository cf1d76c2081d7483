"""Upstreams in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass, field
from typing import Literal

from gateway.config.sections.headers.model import FieldChanges
from gateway.policy.adaptive import AdaptiveSettings
from gateway.policy.breaker import BreakerSettings
from gateway.policy.budget import BudgetSettings
from gateway.policy.ejection import EjectionSettings
from gateway.policy.limit import LimitSettings
from gateway.policy.outcome import FAILURE_STATUSES
from gateway.policy.retry import RetrySettings


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

"""Routes in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass, field
from typing import Literal

from gateway.config.sections.cors.model import CorsConfig
from gateway.config.sections.deliver.model import DeliverConfig
from gateway.config.sections.fallback.model import FallbackConfig
from gateway.config.sections.headers.model import FieldChanges
from gateway.config.sections.hooks.model import HookConfig
from gateway.config.sections.idempotency.model import IdempotencyConfig
from gateway.config.sections.identity.model import AllowConfig, Method
from gateway.config.sections.mirror.model import MirrorConfig
from gateway.config.sections.split.model import SplitConfig
from gateway.config.sections.validation.model import RouteValidation
from gateway.policy.adaptive import DEFAULT_GROUP
from gateway.policy.hedge import HedgeSettings
from gateway.policy.priority import Priority
from gateway.saga.workflow import Workflow


@dataclass(frozen=True, slots=True)
class RouteConfig:
    """Which requests go to which upstream.

    A route matches on host (None: any) and on the longest path prefix, whole segments only: `/api` matches `/api` and
    `/api/x`, not `/apix`; `/api/` matches only what is below it. `strip_prefix` removes the prefix (the rest begins
    with a slash) before the upstream's `base_path` is put in front. `methods` None means all. `max_body_bytes` None
    means unlimited. `max_tunnels` caps the open WebSocket tunnels of this route, `tunnel_client_share` is the part of
    them that one client may have, above 0 and up to 1. A side of a tunnel may take nothing, or leave a Ping without an
    answer, for `tunnel_stall_timeout`; the Ping comes after `tunnel_ping_interval` of silence, 0 for never. When
    `backpressure_threshold` of `tunnel_buffer_bytes` wait for a side, the other one is not read. `path_dots` says what
    becomes of paths with dot segments (gateway.proxy.requests.dots), `rewrite_redirects` whether redirects to the
    address of the upstream are translated (gateway.proxy.filters.redirects). `authentication` are the ways in which a
    request may prove who sends it; one of them is enough, and without any everybody may ask. `allow` says whom the
    route is for.
    `issuers` are those whose tokens count where `jwt` is one of the ways, all of them where it is empty; with
    `forward_token` the upstream gets the token, too. `idempotency` None: an `Idempotency-Key` means nothing here.
    `deliver` None: requests go to the upstream at once. `fallback` None: what the upstream does not answer is refused.
    A `split` shares the requests among several upstreams; `upstream` is the first of them. A `mirror` gets copies of
    them. `request_headers` and `response_headers` None: fields pass as they come. `rewrites` are templates of paths and
    of what they become (`gateway.syntax.path_template`); the first that matches counts. With a `workflow` they start
    runs of it, and `upstream` is that of its first step. `priority` None: nobody has said how much its requests matter.
    `hedge` None: no request is sent twice at the same time. Routes of one upstream with the same `latency_group` have
    answers whose times are comparable.
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
    hedge: HedgeSettings | None = None

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Where its requests go in the first place."""
        return (self.upstream,) if self.split is None else self.split.upstreams

"""How the gateway treats requests: what the environment and a route of the file have in common (`RouteDefaults`), and
what the file says beyond it (`FileRoute`).

What a route of the file leaves out is filled in from the environment's settings before it is validated.
"""

from http import HTTPMethod
from typing import Annotated, Literal

from annotated_types import Interval, Len
from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config.declaring import addresses
from gateway.config.declaring.field_types import Name
from gateway.config.declaring.section import Allowed, Bytes, Env, Meaning, Seconds, Section
from gateway.config.problems import nearest
from gateway.config.sections.cors.settings import Cors
from gateway.config.sections.deliver.settings import Deliver
from gateway.config.sections.fallback.settings import Fallback
from gateway.config.sections.headers.settings import FieldChanges
from gateway.config.sections.hedge.settings import Hedge
from gateway.config.sections.hooks.settings import HOOK_ALLOWED, HookEntry, hook_entry
from gateway.config.sections.idempotency.settings import Idempotency
from gateway.config.sections.identity.settings import Allow, LimitName
from gateway.config.sections.mirror.settings import Mirror
from gateway.config.sections.rewrite.settings import RewriteRule
from gateway.config.sections.split.settings import Split
from gateway.config.sections.validation.settings import Validated
from gateway.policy.adaptive import DEFAULT_GROUP
from gateway.policy.priority import Priority

CONTROL_PREFIXES = (
    "/health",
    "/livez",
    "/readyz",
    "/metrics",
    "/status/",
    "/api/resilience",
    "/api/admin",
    "/api/openapi.json",
    "/api/docs",
    "/api/test",
    "/chaos",
    "/console",
)

# CONNECT asks for a tunnel to anywhere, and is refused before routing. The other methods are WebDAV's and those of
# caches.
_METHODS = frozenset(HTTPMethod) - {HTTPMethod.CONNECT} | {
    *("ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "M-SEARCH", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL"),
    *("MOVE", "NOTIFY", "PROPFIND", "PROPPATCH", "PURGE", "QUERY", "REBIND", "REPORT", "SEARCH", "SOURCE"),
    *("SUBSCRIBE", "UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE"),
}
_METHOD_ALLOWED = "HTTP methods in capitals, such as GET, POST, DELETE; not CONNECT"
_ROUTE_HOST_ALLOWED = "a host name without port or wildcard, or an IP address"
_ISSUERS_ALLOWED = "a list of at least one issuer; left out, all of them"
_RESERVED = f"nothing under {', '.join(CONTROL_PREFIXES)}, which the gateway answers itself"

_AUTHENTICATION_ALLOWED = "api_key, jwt, or none"


def _ways(value: object) -> object:
    """What may be written in place of a list: one way alone, or `none`."""
    if isinstance(value, str):
        value = [value]
    return [] if value == ["none"] else value


class RouteDefaults(Section):
    """Requests and WebSocket tunnels"""

    max_body_bytes: Annotated[
        Bytes,
        Interval(ge=0, le=1_099_511_627_776),
        Env("MAX_BODY_BYTES", "Largest request body; beyond it 413; 0 is unlimited"),
    ] = 0
    websocket: Annotated[bool, Env("WEBSOCKET_ENABLED", "Whether /proxy/ lets WebSocket tunnels through")] = True
    max_tunnels: Annotated[
        int, Interval(ge=1, le=1_000_000), Env("MAX_WEBSOCKET_CONNECTIONS", "Open tunnels of one route")
    ] = 1000
    tunnel_idle_timeout: Annotated[
        Seconds,
        Interval(ge=0.1, le=86_400),
        Env("WEBSOCKET_IDLE_TIMEOUT_SECONDS", "A tunnel silent in both directions closes after it"),
    ] = 300.0
    tunnel_client_share: Annotated[
        float,
        Interval(ge=0.01, le=1),
        Env(
            "MAX_WEBSOCKET_CONNECTIONS_CLIENT_SHARE",
            "Part of the tunnels of a route that one client may have, rounded up; 1 is all",
        ),
    ] = 0.8
    tunnel_stall_timeout: Annotated[
        Seconds,
        Interval(ge=0.1, le=3600),
        Env(
            "WEBSOCKET_STALL_TIMEOUT_SECONDS",
            "A tunnel closes when a side takes nothing of what waits for it, or answers no Ping, for so long",
        ),
    ] = 30.0
    tunnel_ping_interval: Annotated[
        Seconds,
        Interval(ge=0, le=86_400),
        Env("WEBSOCKET_PING_INTERVAL_SECONDS", "A side that is silent for so long gets a Ping; 0 is never"),
    ] = 30.0
    tunnel_buffer_bytes: Annotated[
        Bytes,
        Interval(ge=4096, le=16_777_216),
        Env("WEBSOCKET_BUFFER_BYTES", "What may wait for one side of a tunnel, before it is sent"),
    ] = 131_072
    backpressure_threshold: Annotated[
        float,
        Interval(ge=0.1, le=1),
        Env("BACKPRESSURE_THRESHOLD", "Part of that buffer which, once filled, stops the reading of the other side"),
    ] = 0.8
    path_dots: Annotated[
        Literal["refuse", "pass"],
        Env("PATH_DOTS", "Paths with dot segments in any spelling: 400, or on to the upstream as they are"),
    ] = "refuse"
    rewrite_redirects: Annotated[
        bool, Env("REWRITE_REDIRECTS", "Turn a Location with the upstream's own address into the client's")
    ] = True
    authentication: Annotated[
        list[Annotated[Literal["api_key", "jwt"], Allowed(_AUTHENTICATION_ALLOWED)]],
        BeforeValidator(_ways),
        Allowed(_AUTHENTICATION_ALLOWED),
        Env(
            "AUTHENTICATION",
            "How requests must prove who sends them; anything else is 401",
            "anybody may ask",
        ),
    ] = Field(default_factory=list)
    priority: Annotated[
        Priority | None,
        Env(
            "ROUTE_PRIORITY",
            "How long requests are taken as a limit is reached: critical ones to the last",
            "normal, where others have one",
        ),
    ] = None
    cors: Cors = Cors()
    idempotency: Idempotency = Idempotency()
    hedge: Hedge = Hedge()


def _method(text: str) -> str:
    return text if text in _METHODS else addresses.reject(_METHOD_ALLOWED, nearest(text, sorted(_METHODS)))


def _prefix(text: str) -> str:
    addresses.path(text, addresses.PATH_ALLOWED)
    for reserved in CONTROL_PREFIXES:
        if text == reserved or text.startswith(f"{reserved.rstrip('/')}/"):
            addresses.reject(_RESERVED)
    return text


class FileRoute(Validated, RouteDefaults):
    """One route in the YAML file. A setting that is left out has the value of its variable."""

    name: Annotated[Name, Meaning("Label in logs and metrics; unique")]
    prefix: Annotated[
        str,
        AfterValidator(_prefix),
        Allowed(addresses.PATH_ALLOWED),
        Meaning("Longest prefix wins, whole segments: `/api` takes `/api` and `/api/x`, `/api/` only what is below"),
    ]
    upstream: Annotated[
        Annotated[str, Allowed("the name of an upstream")] | None,
        Meaning("Where the requests go", "required without `workflow`"),
    ] = None
    workflow: Annotated[
        Annotated[str, Allowed("the name of a workflow")] | None,
        Meaning("Requests start runs of this workflow, in place of going to an `upstream`", "none"),
    ] = None
    host: Annotated[
        Annotated[str, AfterValidator(lambda text: addresses.route_host(text, _ROUTE_HOST_ALLOWED))] | None,
        Allowed(_ROUTE_HOST_ALLOWED),
        Meaning("Only requests for this host", "any"),
    ] = None
    methods: Annotated[
        Annotated[list[Annotated[str, AfterValidator(_method), Allowed(_METHOD_ALLOWED)]], Len(1, 100)] | None,
        Allowed(f"a list of {_METHOD_ALLOWED}"),
        Meaning("Only these methods", "any"),
    ] = None
    strip_prefix: Annotated[bool, Meaning("Take the prefix off before forwarding")] = False
    preserve_host: Annotated[bool, Meaning("Forward the client's `Host` instead of the upstream's authority")] = False
    latency_group: Annotated[
        Name, Meaning("Routes of an upstream with one name have answers whose times are comparable")
    ] = DEFAULT_GROUP
    rate_limit: Annotated[LimitName, Meaning("Which rate limit; `null` or `none` for none")] = "default"
    websocket: Annotated[bool, Meaning("Let WebSocket tunnels through")] = False
    allow: Allow = Allow()
    issuers: Annotated[
        list[str],
        Len(1, 100),
        Allowed(_ISSUERS_ALLOWED),
        Meaning("With authentication: jwt, whose tokens count", "those of all issuers"),
    ] = Field(default_factory=list)
    forward_token: Annotated[bool, Meaning("With authentication: jwt, whether the upstream gets the token, too")] = True
    deliver: Deliver = Deliver()
    split: Split = Split()
    mirror: Mirror = Mirror()
    fallback: Fallback = Fallback()
    rewrite: Annotated[
        list[RewriteRule],
        Len(0, 100),
        Allowed("a list of {path, to}"),
        Meaning("Paths that become others, by template; the first that matches counts", "none"),
    ] = Field(default_factory=list)
    request_headers: FieldChanges = FieldChanges()
    response_headers: FieldChanges = FieldChanges()
    hooks: Annotated[
        list[Annotated[HookEntry, BeforeValidator(hook_entry), Allowed(HOOK_ALLOWED)]],
        Len(0, 20),
        Allowed(f"a list of {HOOK_ALLOWED}"),
        Meaning("Python code that is asked about requests and answers, in this order: docs/hooks.md", "none"),
    ] = Field(default_factory=list)

    @property
    def asks_later(self) -> bool:
        """Whether its requests are answered before an upstream is asked."""
        return self.deliver.enabled or self.workflow is not None

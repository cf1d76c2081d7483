"""The schema of the YAML file: upstreams, rate limits and routes, typed strictly.

What an entry leaves out is filled in from the environment's settings before it is validated (`overlaid`), so that the
models here only say what is there beyond `gateway.config.settings`.
"""

import re
from http import HTTPMethod
from typing import Annotated, Any, Literal

from annotated_types import Interval, Len
from pydantic import AfterValidator, BeforeValidator, Field

from gateway.config import addresses
from gateway.config.deliver_settings import Deliver
from gateway.config.fallback_settings import Fallback
from gateway.config.field_types import Host, Name, Port
from gateway.config.headers_settings import FieldChanges
from gateway.config.hooks_settings import HOOK_ALLOWED, HookEntry, hook_entry
from gateway.config.identity_file import Allow, LimitName
from gateway.config.mirror_settings import Mirror
from gateway.config.problems import nearest
from gateway.config.rewrite_settings import RewriteRule
from gateway.config.route_settings import RouteDefaults
from gateway.config.schema import Allowed, Section
from gateway.config.split_settings import Split
from gateway.config.upstream_settings import Upstream
from gateway.config.validation_settings import Validated
from gateway.policy.adaptive import DEFAULT_GROUP

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
_AUTHORITY = re.compile(r"[A-Za-z0-9._:\[\]-]+", re.ASCII)
_AUTHORITY_ALLOWED = "host or host:port"
_ROUTE_HOST_ALLOWED = "a host name without port or wildcard, or an IP address"
_PATH_ALLOWED = "a path that begins with '/', without '//', query, fragment or dot segments"
_ISSUERS_ALLOWED = "a list of at least one issuer; left out, all of them"
_RESERVED = f"nothing under {', '.join(CONTROL_PREFIXES)}, which the gateway answers itself"


def _method(text: str) -> str:
    return text if text in _METHODS else addresses.reject(_METHOD_ALLOWED, nearest(text, sorted(_METHODS)))


def _authority(text: str) -> str:
    if _AUTHORITY.fullmatch(text) is None:
        addresses.reject(_AUTHORITY_ALLOWED)
    addresses.host_port(text, 1, _AUTHORITY_ALLOWED)
    return text


def _base_path(text: str) -> str:
    return addresses.path(text, _PATH_ALLOWED).rstrip("/")


def _prefix(text: str) -> str:
    addresses.path(text, _PATH_ALLOWED)
    for reserved in CONTROL_PREFIXES:
        if text == reserved or text.startswith(f"{reserved.rstrip('/')}/"):
            addresses.reject(_RESERVED)
    return text


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


class FileEndpoint(Section):
    """One endpoint of an upstream in the YAML file. Without a `scheme` it has that of its upstream."""

    host: Host
    port: Port
    weight: Annotated[int, Interval(ge=1, le=1000)] = 1
    scheme: Literal["http", "https"] | None = None


class FileUpstream(Upstream):
    """One upstream in the YAML file. A setting that is left out has the value of its variable."""

    endpoints: Annotated[
        list[Annotated[FileEndpoint, BeforeValidator(_endpoint), Allowed(addresses.ENDPOINT_ALLOWED)]],
        Len(1, 1000),
        Allowed(f"a list of at least one endpoint: {addresses.ENDPOINT_ALLOWED}"),
    ]
    scheme: Literal["http", "https"] | None = None
    base_path: Annotated[str, AfterValidator(_base_path), Allowed(_PATH_ALLOWED)] = ""
    authority: Annotated[str, AfterValidator(_authority), Allowed(_AUTHORITY_ALLOWED)] | None = None
    tool: bool = False
    request_headers: FieldChanges = FieldChanges()


class FileRoute(Validated, RouteDefaults):
    """One route in the YAML file. A setting that is left out has the value of its variable."""

    name: Name
    prefix: Annotated[str, AfterValidator(_prefix), Allowed(_PATH_ALLOWED)]
    upstream: Annotated[str, Allowed("the name of an upstream")] | None = None
    workflow: Annotated[str, Allowed("the name of a workflow")] | None = None
    host: Annotated[
        Annotated[str, AfterValidator(lambda text: addresses.route_host(text, _ROUTE_HOST_ALLOWED))] | None,
        Allowed(_ROUTE_HOST_ALLOWED),
    ] = None
    methods: Annotated[
        Annotated[list[Annotated[str, AfterValidator(_method), Allowed(_METHOD_ALLOWED)]], Len(1, 100)] | None,
        Allowed(f"a list of {_METHOD_ALLOWED}"),
    ] = None
    strip_prefix: bool = False
    preserve_host: bool = False
    latency_group: Name = DEFAULT_GROUP
    rate_limit: LimitName = "default"
    websocket: bool = False
    allow: Allow = Allow()
    issuers: Annotated[list[str], Len(1, 100), Allowed(_ISSUERS_ALLOWED)] = Field(default_factory=list)
    forward_token: bool = True
    deliver: Deliver = Deliver()
    split: Split = Split()
    mirror: Mirror = Mirror()
    fallback: Fallback = Fallback()
    rewrite: Annotated[list[RewriteRule], Len(0, 100), Allowed("a list of {path, to}")] = Field(default_factory=list)
    request_headers: FieldChanges = FieldChanges()
    response_headers: FieldChanges = FieldChanges()
    hooks: Annotated[
        list[Annotated[HookEntry, BeforeValidator(hook_entry), Allowed(HOOK_ALLOWED)]],
        Len(0, 20),
        Allowed(f"a list of {HOOK_ALLOWED}"),
    ] = Field(default_factory=list)


class File(Section):
    """The parts of the file. Their entries are validated one by one, so that one bad entry does not hide another."""

    upstreams: dict[str, Any] = Field(default_factory=dict)
    rate_limits: dict[str, Any] = Field(default_factory=dict)
    routes: list[Any] = Field(default_factory=list)
    tiers: dict[str, Any] = Field(default_factory=dict)
    tenants: dict[str, Any] = Field(default_factory=dict)
    consumers: dict[str, Any] = Field(default_factory=dict)
    issuers: dict[str, Any] = Field(default_factory=dict)
    workflows: dict[str, Any] = Field(default_factory=dict)


def overlaid(defaults: dict[str, Any], entry: object) -> object:
    """`entry`, with `defaults` for whatever it leaves out. A part that does not have the right shape is left to the
    schema."""
    if not isinstance(entry, dict):
        return entry
    result = defaults | entry
    for key, value in entry.items():
        if isinstance(value, dict) and isinstance(defaults.get(key), dict):
            result[key] = overlaid(defaults[key], value)
    return result

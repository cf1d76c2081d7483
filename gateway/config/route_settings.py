"""How the gateway treats requests: the settings that the environment and a route of the file have in common."""

from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import BeforeValidator, Field

from gateway.config.field_types import FieldName, Method, Origin
from gateway.config.idempotency_settings import Idempotency
from gateway.config.schema import Allowed, Bytes, Env, Seconds, Section
from gateway.policy.priority import Priority

_AUTHENTICATION_ALLOWED = "api_key, jwt, or none"


def _methods(value: object) -> object:
    """What may be written in place of a list: one way alone, or `none`."""
    if isinstance(value, str):
        value = [value]
    return [] if value == ["none"] else value


class Cors(Section):
    """Pages of other origins (CORS)"""

    origins: Annotated[
        list[Origin],
        Env(
            "CORS_ORIGINS",
            "Origins whose pages may call; with any, preflights are answered here",
            "the upstream's own",
        ),
    ] = Field(default_factory=list)
    methods: Annotated[
        list[Method], Env("CORS_METHODS", "Methods that preflights allow", "those of the route, else the one asked for")
    ] = Field(default_factory=list)
    headers: Annotated[
        list[FieldName], Env("CORS_HEADERS", "Request fields that preflights allow", "those asked for")
    ] = Field(default_factory=list)
    expose: Annotated[
        list[FieldName],
        Env("CORS_EXPOSE_HEADERS", "Answer fields that scripts may read, besides ours", "none"),
    ] = Field(default_factory=list)
    credentials: Annotated[
        bool, Env("CORS_CREDENTIALS", "Whether requests may come with cookies; not with the origin *")
    ] = False
    max_age: Annotated[
        Seconds, Interval(ge=0, le=86_400), Env("CORS_MAX_AGE_SECONDS", "How long browsers keep a preflight's answer")
    ] = 600.0
    public_refusals: Annotated[
        bool,
        Env("CORS_PUBLIC_REFUSALS", "Without origins any page may read refusals, never with credentials"),
    ] = True


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
        BeforeValidator(_methods),
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

"""CORS: the settings that the environment and a route of the file have in common."""

from typing import Annotated

from annotated_types import Interval
from pydantic import Field

from gateway.config.declaring.field_types import FieldName, Method, Origin
from gateway.config.declaring.section import Env, Seconds, Section


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

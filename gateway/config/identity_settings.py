"""How those who send requests prove who they are: what is the same for all routes."""

import re
from typing import Annotated

from pydantic import AfterValidator

from gateway.config import addresses
from gateway.config.field_types import FieldName
from gateway.config.schema import Allowed, Env, Section

_ALLOWED = "the name of a field that requests use for nothing else, such as X-API-Key"
TAKEN = frozenset(
    {"accept", "accept-encoding", "accept-language", "cache-control", "connection", "content-encoding"}
    | {"content-length", "content-type", "cookie", "date", "expect", "forwarded", "host", "idempotency-key"}
    | {"keep-alive", "max-forwards", "origin", "proxy", "proxy-authenticate", "proxy-authorization", "range"}
    | {"proxy-connection", "referer", "te", "traceparent", "tracestate", "trailer", "transfer-encoding", "upgrade"}
    | {
        "user-agent",
        "via",
        "x-consumer",
        "x-correlation-id",
        "x-gateway-debug",
        "x-real-ip",
        "x-request-id",
        "x-tenant",
    }
)
"""Fields in which no key can come: the gateway takes them out or reads something else in them, or an upstream needs
them, who gets none of what is in the field for keys."""

_PARAMETER = re.compile(r"[A-Za-z0-9_.~-]{1,64}")
_PARAMETER_ALLOWED = "the name of a query parameter: up to 64 letters, digits and _ . ~ -"


def _free(name: str) -> str:
    low = name.lower()
    return addresses.reject(_ALLOWED) if low in TAKEN or low.startswith("x-forwarded") else name


def _parameter(name: str) -> str:
    return name if _PARAMETER.fullmatch(name) else addresses.reject(_PARAMETER_ALLOWED)


class Identity(Section):
    """Authentication"""

    api_key_header: Annotated[
        Annotated[FieldName, AfterValidator(_free), Allowed(_ALLOWED)],
        Env("API_KEY_HEADER", "The field that an API key may come in, besides Authorization: Bearer"),
    ] = "X-API-Key"
    api_key_query: Annotated[
        Annotated[str, AfterValidator(_parameter), Allowed(_PARAMETER_ALLOWED)] | None,
        Env("API_KEY_QUERY", "The query parameter that an API key may come in, too", "no key counts in the query"),
    ] = None

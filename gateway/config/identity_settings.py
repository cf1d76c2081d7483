"""How those who send requests prove who they are: what is the same for all routes."""

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


def _free(name: str) -> str:
    low = name.lower()
    return addresses.reject(_ALLOWED) if low in TAKEN or low.startswith("x-forwarded") else name


class Identity(Section):
    """Authentication"""

    api_key_header: Annotated[
        Annotated[FieldName, AfterValidator(_free), Allowed(_ALLOWED)],
        Env("API_KEY_HEADER", "The field that an API key may come in, besides Authorization: Bearer"),
    ] = "X-API-Key"

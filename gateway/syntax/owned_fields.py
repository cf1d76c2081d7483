"""Which header fields may be changed by whoever is not the gateway: the configuration of routes, and hooks.

Not those that frame a message or belong to one connection, say who asks or where a request comes from, or are made by
the gateway itself.
"""

import re
from typing import Final, Literal

NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
"""The name of a field."""
# RFC 9110 section 5.5, without the bytes beyond ASCII.
VALUE: Final = re.compile(r"[!-~](?:[\t -~]{0,8190}[!-~])?", re.ASCII)
"""The value of a field."""
_NOT_PLAIN: Final = re.compile(r"[^a-z0-9]")

_CONNECTION: Final = (
    *("connection", "keep-alive", "proxy-connection", "proxy-authenticate", "proxy-authorization", "te", "trailer"),
    *("transfer-encoding", "content-length", "upgrade", "via", "x-request-id", "x-correlation-id"),
)
_OF_REQUESTS: Final = frozenset(
    {
        *_CONNECTION,
        *("host", "expect", "traceparent", "tracestate", "idempotency-key", "max-forwards", "origin", "proxy"),
        *("x-tenant", "x-consumer", "forwarded", "x-forwarded", "forwarded-for", "x-real-ip", "x-client-ip"),
        *("client-ip", "true-client-ip", "x-true-client-ip", "x-cluster-client-ip", "x-remote-ip", "x-remote-addr"),
        *("x-originating-ip", "x-original-forwarded-for", "proxy-client-ip", "wl-proxy-client-ip", "x-proxyuser-ip"),
        *("cf-connecting-ip", "cf-connecting-ipv6", "cf-pseudo-ipv4", "cf-visitor", "fastly-client-ip"),
        *("fly-client-ip", "x-appengine-user-ip", "x-azure-clientip", "x-azure-socketip"),
        *("x-envoy-external-address", "x-envoy-original-path", "front-end-https", "x-url-scheme", "x-scheme"),
        *("x-original-host", "x-http-host-override", "x-host", "x-original-url", "x-original-uri", "x-rewrite-url"),
        *("x-script-name", "x-gateway-debug", "x-gateway-mirror"),
    }
)
_OF_ANSWERS: Final = frozenset(
    {
        *_CONNECTION,
        *("date", "retry-after", "ratelimit", "ratelimit-policy", "x-ratelimit-limit", "x-ratelimit-remaining"),
        *("x-ratelimit-reset", "location", "content-location", "refresh", "access-control-allow-origin"),
        *("proxy-status", "cache-status", "age", "idempotent-replayed"),
    }
)
_FORWARDED: Final = "x-forwarded-"


def owned(name: str, of: Literal["request", "answer"]) -> bool:
    """Whether the gateway itself reads or sets a field, in any spelling that an upstream may take for it."""
    word = plain(name)
    if of == "answer":
        return word in _OF_ANSWERS
    return word in _OF_REQUESTS or word.startswith(_FORWARDED)


def plain(name: str) -> str:
    """The one spelling for all those that an upstream behind CGI takes for the same."""
    return _NOT_PLAIN.sub("-", name.lower())

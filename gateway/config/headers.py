"""From what is said about header fields to what it means, and what is wrong with it.

A value may be a key for a provider, so no message has one.
"""

import re
from collections.abc import Iterable
from typing import Any, Final, Literal

from gateway.config.headers_model import FieldChanges
from gateway.config.headers_settings import FieldChanges as Wanted
from gateway.config.problems import MASK, Problem, shown
from gateway.config.sources import Sources
from gateway.config.yaml_tree import Location

_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_NAME_ALLOWED: Final = "the name of a header field, such as X-Api-Version"
# RFC 9110 section 5.5, without the bytes beyond ASCII.
_VALUE: Final = re.compile(r"[!-~](?:[\t -~]{0,8190}[!-~])?", re.ASCII)
_VALUE_ALLOWED: Final = "1 to 8192 visible ASCII characters, with blanks between them"
_OWN: Final = "another field: the gateway itself reads or sets this one"

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
        *("x-script-name", "x-gateway-debug"),
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
    plain = re.sub(r"[^a-z0-9]", "-", name.lower())
    if of == "answer":
        return plain in _OF_ANSWERS
    return plain in _OF_REQUESTS or plain.startswith(_FORWARDED)


def field_changes(
    sources: Sources, wanted: Wanted, location: Location, of: Literal["request", "answer"]
) -> FieldChanges | None:
    """The domain type, None where nothing is changed. What is wrong is reported; `location` is that of `wanted`."""
    of_claims = _of_claims(sources.tree.root)
    for part, names in (("set", wanted.set), ("append", wanted.append), ("remove", wanted.remove)):
        for place, name in enumerate(names):
            at = (*location, part, place if part == "remove" else name)
            if _NAME.fullmatch(name) is None:
                _report(sources, at, shown(name), _NAME_ALLOWED)
            elif owned(name, of) or (of == "request" and name.lower() in of_claims):
                _report(sources, at, shown(name), _OWN)
    for part, values in (("set", wanted.set), ("append", wanted.append)):
        for name, value in values.items():
            if _VALUE.fullmatch(value) is None:
                _report(sources, (*location, part, name), MASK, _VALUE_ALLOWED)
    if not (wanted.set or wanted.append or wanted.remove):
        return None
    return FieldChanges(tuple(wanted.remove), tuple(wanted.set.items()), tuple(wanted.append.items()))


def check_headers_of_delivered(sources: Sources, route: int, *, preserve_host: bool) -> None:
    """Report changes of fields on a route that delivers or has a workflow: its requests are kept as they come, and its
    answers are the gateway's own. The client's Host is not kept."""
    if preserve_host:
        allowed = "false on a route with deliver or workflow, whose upstreams get their own names"
        _report(sources, ("routes", route, "preserve_host"), "true", allowed)
    for part in ("request_headers", "response_headers"):
        if sources.tree.holds(("routes", route, part)):
            allowed = "nothing on a route with deliver or workflow; request_headers of its upstream"
            _report(sources, ("routes", route, part), "a mapping", allowed)


def _of_claims(root: Any) -> frozenset[str]:
    """The fields that are made from claims of tokens, in lower case."""
    issuers = root.get("issuers") if isinstance(root, dict) else None
    found: list[str] = []
    for issuer in _mappings(issuers):
        fields = issuer.get("fields")
        found += [str(name).lower() for name in fields] if isinstance(fields, dict) else []
    return frozenset(found)


def _mappings(entries: Any) -> Iterable[dict[str, Any]]:
    return [each for each in entries.values() if isinstance(each, dict)] if isinstance(entries, dict) else []


def _report(sources: Sources, location: Location, value: str, allowed: str) -> None:
    sources.problems.append(Problem(sources.tree.source(location), value, allowed))

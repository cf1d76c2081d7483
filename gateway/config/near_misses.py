"""For a name that is not ours: what its writer probably meant.

Names are compared without their units, because `…_SECONDS` alone makes any two of them look alike. The names of the
runbooks are known, where a setting has another name here.
"""

import difflib
import re
from collections.abc import Iterable, Mapping

from gateway.config.file import FileRoute, FileUpstream
from gateway.config.problems import nearest
from gateway.config.settings import RateLimit
from gateway.config.yaml_tree import Location

FOREIGN: Mapping[str, str] = {
    "OPEN_DURATION_SECONDS": "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS",
    "OPEN_DURATION": "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS",
    "RATE_LIMIT": "RATE_LIMIT_CAPACITY",
    "REDIS": "REDIS_URL",
    "TIMEOUT": "UPSTREAM_TIMEOUT",
    "LISTEN": "HOST",
    "BIND": "HOST",
    "FAILURE_THRESHOLD": "CIRCUIT_BREAKER_FAILURE_THRESHOLD",
    "FAILURE_RATE_THRESHOLD": "CIRCUIT_BREAKER_FAILURE_RATE_THRESHOLD",
    "ROLLING_WINDOW_SIZE": "CIRCUIT_BREAKER_WINDOW_SIZE",
    "ROLLING_WINDOW_MINUTES": "CIRCUIT_BREAKER_WINDOW_SECONDS",
    "TIMEOUT_SECONDS": "UPSTREAM_TIMEOUT",
    "TIMEOUT_MS": "TIMEOUT_THRESHOLD_MS",
    "REQUEST_TIMEOUT": "UPSTREAM_TIMEOUT",
    "MAX_RETRY_ATTEMPTS": "RETRY_MAX_ATTEMPTS",
    "RETRY_DELAY": "RETRY_BASE_DELAY_SECONDS",
    "BASE_DELAY": "RETRY_BASE_DELAY_SECONDS",
    "CHECK_INTERVAL_MINUTES": "ALERT_CHECK_INTERVAL_SECONDS",
    "HIGH_ERROR_RATE_THRESHOLD": "ALERT_HIGH_ERRORS_PER_MINUTE",
    "CRITICAL_ERROR_RATE_THRESHOLD": "ALERT_CRITICAL_ERROR_RATE",
    "TRACE_SAMPLE_RATIO": "OTEL_TRACES_SAMPLER_ARG",
}
"""Names of the runbooks, and of other gateways, for settings of ours."""

_UNITS = re.compile(r"_(SECONDS|MS|BYTES|HOURS|MINUTES)$")
_CLOSE = 0.75

# Keys of other gateways' files, without underscores and case, by the part of the file: where ours stand in an entry.
_OTHER_WORDS: Mapping[str, Mapping[str, str]] = {
    "routes": {
        "path": "prefix",
        "paths": "prefix",
        "pathprefix": "prefix",
        "match": "prefix",
        "hosts": "host",
        "domain": "host",
        "service": "upstream",
        "backend": "upstream",
        "target": "upstream",
        "cluster": "upstream",
        "method": "methods",
        "limit": "rate_limit",
        "ratelimits": "rate_limit",
        "striprefix": "strip_prefix",
        "stripath": "strip_prefix",
        "stripprefix": "strip_prefix",
        "stripuri": "strip_prefix",
    },
    "upstreams": {
        "url": "endpoints",
        "urls": "endpoints",
        "host": "endpoints",
        "hosts": "endpoints",
        "servers": "endpoints",
        "targets": "endpoints",
        "nodes": "endpoints",
        "addresses": "endpoints",
        "timeout": "timeouts.attempt",
        "timeoutseconds": "timeouts.attempt",
        "connecttimeout": "timeouts.connect",
        "totaltimeout": "timeouts.total",
        "idletimeout": "timeouts.idle",
        "retries": "retry.max_attempts",
        "maxretries": "retry.max_attempts",
        "maxretryattempts": "retry.max_attempts",
        "attempts": "retry.max_attempts",
        "circuitbreaker": "breaker",
        "openduration": "breaker.reset_timeout",
        "opendurationseconds": "breaker.reset_timeout",
        "rollingwindowsize": "breaker.window_size",
        "rollingwindowminutes": "breaker.window_seconds",
        "healthcheckpath": "health_check.path",
        "loadbalancer": "balance",
        "lb": "balance",
        "path": "base_path",
        "prefix": "base_path",
    },
    "rate_limits": {
        "burst": "capacity",
        "limit": "capacity",
        "size": "capacity",
        "rate": "refill_rate",
        "refill": "refill_rate",
        "rps": "refill_rate",
        "requestspersecond": "refill_rate",
    },
}
_MODELS = {"upstreams": FileUpstream, "rate_limits": RateLimit, "routes": FileRoute}


def variable(name: str, known: Iterable[str]) -> str | None:
    """The variable that `name` was probably meant to be."""
    upper = name.upper()
    if upper in FOREIGN:
        return FOREIGN[upper]
    bare = {_UNITS.sub("", each): each for each in known} | {each: each for each in known}
    for candidate in (upper, _UNITS.sub("", upper)):
        matches = difflib.get_close_matches(candidate, bare, n=1, cutoff=_CLOSE)
        if matches:
            return bare[matches[0]]
    return None


def key(part: str, location: Location, siblings: Iterable[str], variables: Iterable[str]) -> str | None:
    """Where the key at `location`, relative to an entry of `part` (or to the file, if empty), probably belongs."""
    *inside, last = (str(step) for step in location)
    if last in variables:
        return f"{last} in the environment or .env"
    close = nearest(last, siblings, _CLOSE)
    if close:
        return close
    folded = last.replace("_", "").replace("-", "").casefold()
    word = _OTHER_WORDS.get(part, {}).get(folded)
    if word and (not inside or "." in word):
        return word
    for other in dict.fromkeys([part, *_MODELS]):
        if other not in _MODELS:
            continue
        paths = _paths(_MODELS[other])
        found = [path for path in paths if path.rpartition(".")[2].replace("_", "") == folded]
        if found:
            return found[0] if other == part else f"{'routes[…]' if other == 'routes' else f'{other}.NAME'}.{found[0]}"
    return None


def _paths(model: type[object], prefix: str = "") -> list[str]:
    paths = []
    for name, field in getattr(model, "model_fields", {}).items():
        paths.append(f"{prefix}{name}")
        if isinstance(field.annotation, type):
            paths += _paths(field.annotation, f"{prefix}{name}.")
    return paths

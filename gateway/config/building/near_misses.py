"""For a name that is not ours: what its writer probably meant.

Names are compared without their units, because `…_SECONDS` alone makes any two of them look alike. The names of the
runbooks are known, where a setting has another name here.
"""

import difflib
import re
from collections.abc import Iterable, Mapping

from gateway.config.problems import nearest
from gateway.config.reading.yaml_tree import Location
from gateway.config.sections.rate_limits.settings import RateLimit
from gateway.config.sections.routes.settings import FileRoute
from gateway.config.sections.upstreams.settings import FileUpstream

FOREIGN: Mapping[str, str] = {
    "OPEN_DURATION_SECONDS": "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS",
    "OPEN_DURATION": "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS",
    "CIRCUIT_BREAKER_RECOVERY_TIMEOUT": "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS",
    "CIRCUIT_BREAKER_OPEN_DURATION": "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS",
    "CIRCUIT_BREAKER_MIN_REQUESTS": "CIRCUIT_BREAKER_MINIMUM_CALLS",
    "CIRCUIT_BREAKER_HALF_OPEN_REQUESTS": "CIRCUIT_BREAKER_HALF_OPEN_MAX_PROBES",
    "RATE_LIMIT": "RATE_LIMIT_CAPACITY",
    "RATE_LIMIT_BURST": "RATE_LIMIT_CAPACITY",
    "RATE_LIMIT_REQUESTS": "RATE_LIMIT_CAPACITY",
    "RATE_LIMIT_MAX_REQUESTS": "RATE_LIMIT_CAPACITY",
    "RATE_LIMIT_MAX": "RATE_LIMIT_CAPACITY",
    "RATE_LIMIT_RPS": "RATE_LIMIT_REFILL_RATE",
    "RATE_LIMIT_PER_SECOND": "RATE_LIMIT_REFILL_RATE",
    "RATE_LIMIT_WHITELIST": "RATE_LIMIT_EXEMPT",
    "RATE_LIMIT_ALLOWLIST": "RATE_LIMIT_EXEMPT",
    "BACKEND_URL": "UPSTREAM_URL",
    "TARGET_URL": "UPSTREAM_URL",
    "SERVICE_URL": "UPSTREAM_URL",
    "PROXY_PASS": "UPSTREAM_URL",
    "UPSTREAM_HOST": "UPSTREAM_URL",
    "UPSTREAM_PORT": "UPSTREAM_URL",
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
    "READ_TIMEOUT": "UPSTREAM_TIMEOUT",
    "SHUTDOWN_TIMEOUT": "DRAIN_TIMEOUT_SECONDS",
    "GRACEFUL_TIMEOUT": "DRAIN_TIMEOUT_SECONDS",
    "MAX_RETRY_ATTEMPTS": "RETRY_MAX_ATTEMPTS",
    "MAX_ATTEMPTS": "RETRY_MAX_ATTEMPTS",
    "RETRY_COUNT": "RETRY_MAX_ATTEMPTS",
    "UPSTREAM_RETRIES": "RETRY_MAX_ATTEMPTS",
    "HEALTH_CHECK_INTERVAL": "UPSTREAM_HEALTH_CHECK_INTERVAL",
    "BULKHEAD_SIZE": "BULKHEAD_LIMIT",
    "BULKHEAD_MAX_CONCURRENT": "BULKHEAD_LIMIT",
    "MAX_CONCURRENT_REQUESTS": "MAX_INFLIGHT",
    "WEB_CONCURRENCY": "WORKERS",
    "WORKER_COUNT": "WORKERS",
    "ADMIN_PASSWORD": "ADMIN_TOKEN",
    "ADMIN_API_KEY": "ADMIN_TOKEN",
    "SSL_CERT_FILE": "TLS_CERT_FILE",
    "SSL_KEY_FILE": "TLS_KEY_FILE",
    "TLS_KEY": "TLS_KEY_FILE",
    "LOG_FILE": "LOG_DIR",
    "ALLOWED_ORIGINS": "CORS_ORIGINS",
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
_CLOSE_ENOUGH = 0.6

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
    without_unit = _UNITS.sub("", upper)
    for candidate in (upper, without_unit):
        if candidate in FOREIGN:
            return FOREIGN[candidate]
    bare = {_UNITS.sub("", each): each for each in known} | {each: each for each in known}
    if without_unit in bare:
        return bare[without_unit]
    for candidate in (upper, without_unit):
        for match in difflib.get_close_matches(candidate, bare, n=5, cutoff=_CLOSE):
            if _differ_little(candidate, match):
                return bare[match]
    return None


def _differ_little(name: str, other: str) -> bool:
    """Whether two names are alike also in the words that they do not share. All names of a section begin with the same
    words, and many end with the same one: CIRCUIT_BREAKER_ENABLED is not CIRCUIT_BREAKER_WINDOW with a mistake."""
    left, right = name.split("_"), other.split("_")
    while left and right and left[0] == right[0]:
        del left[0], right[0]
    while left and right and left[-1] == right[-1]:
        del left[-1], right[-1]
    if not left or not right:
        return True
    return difflib.SequenceMatcher(None, "_".join(left), "_".join(right)).ratio() >= _CLOSE_ENOUGH


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

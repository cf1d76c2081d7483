"""The environment and `.env`: every variable, its range, precedence, aliases, unknown names."""

from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from gateway.config import ConfigError, load
from gateway.config.building.variables import ALIASES, VARIABLES
from gateway.config.model import GatewayConfig
from gateway.config.sections.log.model import LogConfig
from gateway.config.sections.rate_limits.model import RateLimitConfig
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.server.model import ServerConfig
from gateway.config.sections.shedding.model import SheddingConfig
from gateway.config.sections.upstreams.model import EndpointConfig, UpstreamConfig, UpstreamTls
from gateway.policy.token_bucket import RateLimitPolicy


def problems(environ: dict[str, str], env_file: Path | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ, env_file)
    return str(caught.value).splitlines()


def test_nothing_set_is_the_domain_types_own_defaults() -> None:
    assert load({}, None) == GatewayConfig(
        service="gateway",
        environment="development",
        server=ServerConfig(),
        shedding=SheddingConfig(),
        rate_limits=RateLimitConfig({"default": RateLimitPolicy("default", 50, 20.0)}),
        upstreams={"default": UpstreamConfig("default", (EndpointConfig("127.0.0.1", 5001),), "127.0.0.1:5001")},
        routes=(RouteConfig("proxy", "/proxy/", "default", strip_prefix=True, websocket=True),),
        redis=None,
        log=LogConfig(),
    )


def test_the_result_cannot_be_changed() -> None:
    config = load({}, None)
    with pytest.raises(TypeError):
        config.upstreams["other"] = config.upstreams["default"]  # type: ignore[index]
    with pytest.raises(TypeError):
        config.rate_limits.policies["other"] = RateLimitPolicy("other", 1, 1)  # type: ignore[index]


# What must be there for a variable to count, and a value other than its default.
HTTPS = {"UPSTREAM_URL": "https://up.example"}
ONE_REDIS = {"REDIS_HOST": "redis"}
SENTINELS = {"REDIS_SENTINELS": "s1,s2:1", "REDIS_SENTINEL_MASTER": "m"}
SAMPLES: dict[str, tuple[str, dict[str, str]]] = {
    "SERVICE_NAME": ("edge", {}),
    "FAULTS_ENABLED": ("true", {"ADMIN_TOKEN": "a-token-of-some-length"}),
    "ENVIRONMENT": ("production", {}),
    "LOG_LEVEL": ("debug", {}),
    "LOG_FORMAT": ("text", {}),
    "LOG_DIR": ("logs", {}),
    "WORKERS": ("auto", {}),
    "ALERT_HIGH_ERROR_RATE": ("0.1", {}),
    "ALERT_WEBHOOK_URL": ("https://hooks.example/alerts?key=1", {}),
    "ALERT_WEBHOOK_SECRET": ("secret", {"ALERT_WEBHOOK_URL": "http://hooks.example"}),
    "HOST": ("::1", {}),
    "TRUSTED_PROXIES": ("10.0.0.0/8", {}),
    "HEADERS_WITH_UNDERSCORES": ("drop", {}),
    "JOURNAL_URL": ("postgresql://gateway@db.example/gateway", {}),
    "IDEMPOTENCY_MODE": ("required", {}),
    "IDEMPOTENCY_METHODS": ("POST", {"IDEMPOTENCY_MODE": "optional"}),
    "IDEMPOTENCY_DEFAULT_TTL_HOURS": ("0.5", {"IDEMPOTENCY_MODE": "optional"}),
    "IDEMPOTENCY_WAIT_SECONDS": ("2", {"IDEMPOTENCY_MODE": "optional"}),
    "IDEMPOTENCY_MAX_RESPONSE_BYTES": ("1MiB", {"IDEMPOTENCY_MODE": "optional"}),
    "IDEMPOTENCY_ON_UNKNOWN": ("retry", {"IDEMPOTENCY_MODE": "optional"}),
    "IDEMPOTENCY_SCOPE": ("tenant", {"IDEMPOTENCY_MODE": "optional", "AUTHENTICATION": "api_key"}),
    "IDEMPOTENCY_ON_STORE_FAILURE": ("open", {"IDEMPOTENCY_MODE": "optional"}),
    "IDEMPOTENCY_CLEANUP_INTERVAL_HOURS": ("0.5", {}),
    "VIA_NAME": ("edge-1", {}),
    "PATH_DOTS": ("pass", {}),
    "CORS_ORIGINS": ("https://app.example", {}),
    "AUTHENTICATION": ("api_key", {}),
    "API_KEY_HEADER": ("X-Client-Key", {}),
    "API_KEY_QUERY": ("api_key", {}),
    "CORS_METHODS": ("GET,PATCH", {}),
    "CORS_HEADERS": ("X-Api-Key", {}),
    "CORS_EXPOSE_HEADERS": ("ETag", {}),
    "RATE_LIMIT_EXEMPT": ("10.0.0.0/8,::1", {}),
    "OTEL_EXPORTER_OTLP_ENDPOINT": ("http://collector:4318", {}),
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": ("http://collector:4318/v1/traces", {}),
    "OTEL_EXPORTER_OTLP_HEADERS": ("api-key=a%20b,x=y", {}),
    "OTEL_EXPORTER_OTLP_COMPRESSION": ("gzip", {}),
    "OTEL_SERVICE_NAME": ("edge", {}),
    "OTEL_RESOURCE_ATTRIBUTES": ("team=payments", {}),
    "OTEL_TRACES_SAMPLER": ("always_off", {}),
    "OTEL_TRACES_SAMPLER_ARG": ("0.1", {}),
    "MAX_INFLIGHT_QUEUE": ("10", {"MAX_INFLIGHT_QUEUE_TIMEOUT_SECONDS": "1"}),
    "LOAD_SHED_STATUS": ("503", {}),
    "ROUTE_PRIORITY": ("low", {}),
    "PRIORITY_HEADER": ("X-Priority", {}),
    "HEDGE_AFTER": ("50ms", {}),
    "HEDGE_MIN_AFTER_SECONDS": ("0.02", {"HEDGE_AFTER": "p95"}),
    "HEDGE_MIN_OBSERVATIONS": ("50", {"HEDGE_AFTER": "p95"}),
    "ADAPTIVE_LIMIT_MODE": ("observe", {}),
    "ADAPTIVE_LIMIT_MIN": ("4", {"ADAPTIVE_LIMIT_MODE": "enforce"}),
    "ADAPTIVE_LIMIT_INITIAL": ("100", {"ADAPTIVE_LIMIT_MODE": "enforce"}),
    "ADMIN_TOKEN": ("0123456789abcdef", {}),
    "ADMIN_HOST": ("::1", {}),
    "CONSOLE_AUTH": ("token", {"ADMIN_TOKEN": "0123456789abcdef"}),
    "CONSOLE_DASHBOARDS_URL": ("https://grafana.example/d/gateway", {}),
    "RATE_LIMIT_ON_REDIS_FAILURE": ("closed", {}),
    "REDIS_URL": ("redis://redis", {}),
    "REDIS_HOST": ("redis", {}),
    "REDIS_SENTINELS": ("s1", {"REDIS_SENTINEL_MASTER": "m"}),
    "REDIS_SENTINEL_MASTER": ("other", {"REDIS_SENTINELS": "s1,s2:1"}),
    "REDIS_SENTINEL_USERNAME": ("u", SENTINELS | {"REDIS_SENTINEL_PASSWORD": "p"}),
    "REDIS_SENTINEL_PASSWORD": ("p", SENTINELS),
    "REDIS_CLUSTER_NODES": ("c1,c2:7000", {}),
    "REDIS_USERNAME": ("u", ONE_REDIS | {"REDIS_PASSWORD": "p"}),
    "REDIS_PASSWORD": ("p", ONE_REDIS),
    "REDIS_KEY_PREFIX": ("edge", ONE_REDIS),
    "JOURNAL_CONNECTIONS": ("9", {"JOURNAL_URL": "postgresql://h/db"}),
    "UPSTREAM_URL": ("http://other:1", {}),
    "UPSTREAM_BALANCE": ("round_robin", {}),
    "UPSTREAM_VERIFY_SSL": ("false", HTTPS),
    "UPSTREAM_SERVER_NAME": ("other.example", HTTPS),
    "UPSTREAM_TIMEOUT": ("11", {}),
    "RETRY_STRATEGY": ("constant", {}),
    "RETRY_STATUSES": ("500, 503", {}),
    "UPSTREAM_FAILURE_STATUSES": ("500-504", {}),
    "RETRY_BASE_DELAY_SECONDS": ("0.2", {}),
    "CIRCUIT_BREAKER_MINIMUM_CALLS": ("21", {}),
    "CIRCUIT_BREAKER_SLOW_CALL_THRESHOLD_SECONDS": ("1", {}),
    "EJECTION_BASE_TIME_SECONDS": ("6", {}),
    "UPSTREAM_HEALTH_CHECK_PATH": ("/health", {}),
    "UPSTREAM_HEALTH_CHECK_TIMEOUT": ("3", {}),
    "RATE_LIMIT_CAPACITY": ("51", {}),
}
FILES = {name for name in VARIABLES if name.endswith("_FILE")} | {"GATEWAY_CONFIG", "OTEL_EXPORTER_OTLP_CERTIFICATE"}
# It says what is spoken anyway, so that one who wants another protocol is told.
ONE_VALUE = {"OTEL_EXPORTER_OTLP_PROTOCOL"}
# They are about upstreams of the file: tests/unit/test_config_tools.py.
TOOLS = {"TOOL_TIMEOUT", "TOOL_MAX_ATTEMPTS"}
# About routes of the file: tests/unit/test_config_hooks.py.
HOOKS = {"HOOKS_DIR", "HOOKS_ON_FAILURE"}


def sample(name: str) -> tuple[str, dict[str, str]]:
    if name in SAMPLES:
        return SAMPLES[name]
    variable = VARIABLES[name]
    needs = ONE_REDIS if name.startswith("REDIS_") else {}
    if name.startswith("UPSTREAM_HEALTH_CHECK"):
        needs = {"UPSTREAM_HEALTH_CHECK_PATH": "/health"}
    if variable.default_text in {"true", "false"}:
        return ("false" if variable.default_text == "true" else "true"), needs
    assert variable.bounds is not None
    return str(int(variable.bounds[1])), needs


@pytest.mark.parametrize("name", [name for name in VARIABLES if name not in FILES | TOOLS | HOOKS | ONE_VALUE])
def test_every_variable_changes_the_configuration(name: str) -> None:
    value, needs = sample(name)
    without = {key: needed for key, needed in needs.items() if key != name}
    if name in {"REDIS_SENTINEL_MASTER", "REDIS_SENTINEL_USERNAME", "REDIS_SENTINEL_PASSWORD"}:
        without = SENTINELS | without
    if name == "MAX_WEBSOCKET_CONNECTIONS":
        without["MAX_CONNECTIONS"] = value
    if name == "REDIS_SENTINELS":
        without = {}
    if name == "REDIS_USERNAME":
        without = ONE_REDIS | {"REDIS_PASSWORD": "p"}
    if name in {"CIRCUIT_BREAKER_MINIMUM_CALLS", "UPSTREAM_HEALTH_CHECK_TIMEOUT"}:
        without |= {"UPSTREAM_HEALTH_CHECK_PATH": "/health"}
    assert load(without | needs | {name: value}, None) != load(without, None)


RANGED = {name: variable.bounds for name, variable in VARIABLES.items() if variable.bounds}


@pytest.mark.parametrize(("name", "bounds"), [*RANGED.items(), *((name, ALIASES[name].bounds) for name in ALIASES)])
def test_a_range_ends_where_it_says(name: str, bounds: tuple[float, float]) -> None:
    lowest, highest = bounds
    for outside in (lowest - 1, highest + 1, "nan", "x", "inf"):
        lines = [line for line in problems({name: str(outside)}) if line.startswith(f"environment {name}: ")]
        assert len(lines) == 1
        assert "allowed: a" in lines[0]
    related = {"UPSTREAM_TOTAL_TIMEOUT": "3600", "RETRY_MAX_DELAY_SECONDS": "300", "MAX_CONNECTIONS": "1000000"}
    related |= {"CIRCUIT_BREAKER_WINDOW_SIZE": "100000", "EJECTION_MAX_TIME_SECONDS": "86400", "REDIS_HOST": "redis"}
    related |= {"UPSTREAM_HEALTH_CHECK_INTERVAL": "3600", "MAX_INFLIGHT_QUEUE_TIMEOUT_SECONDS": "1"}
    related |= {"RATE_LIMIT_TTL": "604800", "RATE_LIMIT_REFILL_RATE": "100", "RATE_LIMIT_CAPACITY": "1"}
    related |= {"ALERT_CRITICAL_ERROR_RATE": "1", "ALERT_HIGH_ERROR_RATE": "0.01"}
    if name == "BULKHEAD_QUEUE_TIMEOUT_SECONDS":
        related["BULKHEAD_QUEUE"] = "0"
    for inside in (lowest, highest):
        text = f"{inside:g}" if isinstance(inside, float) and not inside.is_integer() else str(int(inside))
        assert load(related | {name: text}, None)


def test_conversions() -> None:
    config = load(
        {
            "TRUSTED_PROXIES": "10.0.0.0/8, ::1,",
            "RETRY_STATUSES": "500,503",
            "MAX_BODY_BYTES": "10",
            "UPSTREAM_URL": " https://[::1]:8443/base/ ",
            "ACCESS_LOG": "no",
            "ACCESS_LOG_QUERY": "no",
        },
        None,
    )
    assert config.server.trusted_proxies == (ip_network("10.0.0.0/8"), ip_network("::1/128"))
    assert config.routes[0].max_body_bytes == 10
    assert config.log.access_log is False
    upstream = config.upstreams["default"]
    assert upstream.endpoints == (EndpointConfig("::1", 8443),)
    assert (upstream.authority, upstream.base_path, upstream.tls) == ("[::1]:8443", "/base", UpstreamTls())
    assert upstream.retry.statuses == {500, 503}


@pytest.mark.parametrize(
    ("url", "endpoints", "authority", "base_path"),
    [
        ("http://a", [("a", 80)], "a", ""),
        ("http://A.Example:81/", [("a.example", 81)], "a.example:81", ""),
        ("https://a:443/x/y", [("a", 443)], "a", "/x/y"),
        ("http://a:1/b,http://b:2/b", [("a", 1), ("b", 2)], "a:1", "/b"),
        ("http://[2001:DB8::1]/%2F", [("2001:db8::1", 80)], "[2001:db8::1]", "/%2F"),
        ("http://my_service:5001", [("my_service", 5001)], "my_service:5001", ""),
    ],
)
def test_upstream_urls(url: str, endpoints: list[tuple[str, int]], authority: str, base_path: str) -> None:
    upstream = load({"UPSTREAM_URL": url}, None).upstreams["default"]
    assert [(endpoint.host, endpoint.port) for endpoint in upstream.endpoints] == endpoints
    assert (upstream.authority, upstream.base_path) == (authority, base_path)


@pytest.mark.parametrize(
    "url",
    [
        *("a", "a:80", "ftp://a", "http://", "http://a:0", "http://a:65536", "http://a:x", "http://a:", "http://a b"),
        *("http://u:p@a", "http://@a", "http://a/?q", "http://a?", "http://a#f", "http://a#", "http://a/../b"),
        *("http://a/%2e%2E/b", "http://a//b", "http://a/%zz", "http://[::1", "http://[a]:1", "http://::1:80"),
        *("http://a,https://a", "http://a/x,http://b/y", "http://a,http://a:80", "http://a,", "http://127.1"),
        *("http://ä", "http://a\tb", "http://-a", "http://1.2.3.4.5", "http://[::1]x:80"),
    ],
)
def test_upstream_urls_that_are_refused(url: str) -> None:
    assert [line.split(": ")[0] for line in problems({"UPSTREAM_URL": url})] == ["environment UPSTREAM_URL"]


def test_all_problems_at_once_one_line_each() -> None:
    lines = problems({"PORT": "70000", "LOG_FORMAT": "jsn", "RETRY_MAX_ATTEMPT": "3", "TRUSTED_PROXIES": "10.0.0.1/8"})
    assert sorted(lines) == [
        'environment LOG_FORMAT: "jsn"; allowed: json or text; did you mean json?',
        'environment PORT: "70000"; allowed: an integer from 1 to 65535',
        (
            "environment RETRY_MAX_ATTEMPT: unknown name; allowed: the names in .env.example; "
            "did you mean RETRY_MAX_ATTEMPTS?"
        ),
        (
            'environment TRUSTED_PROXIES: "10.0.0.1/8"; allowed: IP addresses or networks in CIDR notation, such as '
            "10.0.0.0/8, 192.0.2.7, ::1, fd00::/8; did you mean 10.0.0.0/8?"
        ),
    ]


@pytest.mark.parametrize(
    ("name", "value", "rest"),
    [
        ("LOG_LEVEL", "debgu", "DEBUG or INFO or WARNING or ERROR or CRITICAL; did you mean DEBUG?"),
        ("LOAD_SHED_STATUS", "0500", "429 or 503"),
        ("ACCESS_LOG", "Maybe", "true or false"),
    ],
)
def test_a_value_is_shown_as_it_was_written(name: str, value: str, rest: str) -> None:
    assert problems({name: value}) == [f'environment {name}: "{value}"; allowed: {rest}']


def test_of_a_list_only_the_item_is_shown() -> None:
    (line,) = problems({"RETRY_STATUSES": "502,200"})
    assert line.startswith('environment RETRY_STATUSES: "200"; ')


def test_a_value_never_breaks_the_line() -> None:
    assert len(problems({"LOG_FORMAT": "a\nb\r\x1b[2J" + "x" * 500})) == 1
    assert "\x1b" not in problems({"LOG_FORMAT": "a\x1b[2J"})[0]


class TestEnvFile:
    @pytest.fixture
    def write(self, tmp_path: Path) -> Callable[[str], Path]:
        def write(text: str) -> Path:
            path = tmp_path / ".env"
            path.write_text(text, encoding="utf-8")
            return path

        return write

    def test_missing_is_no_problem(self, tmp_path: Path) -> None:
        assert load({}, tmp_path / ".env") == load({}, None)

    def test_the_environment_wins_unless_it_is_empty(self, write: Callable[[str], Path]) -> None:
        path = write("PORT=1\nexport SERVICE_NAME='a'\nLOG_FORMAT=text # comment\n")
        config = load({"PORT": "2", "SERVICE_NAME": ""}, path)
        assert (config.server.port, config.service, config.log.format) == (2, "a", "text")

    def test_single_quotes_are_literal(self, write: Callable[[str], Path]) -> None:
        config = load({"X": "y"}, write("REDIS_HOST=h\nREDIS_PASSWORD='a${X}b'\n"))
        assert config.redis is not None
        assert config.redis.password == "a${X}b"

    def test_problems_name_the_line(self, write: Callable[[str], Path]) -> None:
        path = write("# c\n\nPORT=x\nRATE_LIMT_CAPACITY=5\ngarbage\nCOMPOSE_PROJECT_NAME=p\n\n\nport=1\nZZZ=1\n")
        assert problems({}, path) == [
            f'{path}:3 PORT: "x"; allowed: an integer from 1 to 65535',
            (
                f"{path}:4 RATE_LIMT_CAPACITY: unknown name; allowed: the names in .env.example; "
                "did you mean RATE_LIMIT_CAPACITY?"
            ),
            f"{path}:5: garbage without = and a value; allowed: NAME=value, comments and empty lines",
            f"{path}:9 port: unknown name; allowed: the names in .env.example; did you mean PORT?",
            f"{path}:10 ZZZ: unknown name; allowed: the names in .env.example",
        ]

    def test_not_text(self, tmp_path: Path) -> None:
        path = tmp_path / ".env"
        path.write_bytes(b"PORT=\xff\n")
        assert problems({}, path) == [f'{path}: "not UTF-8"; allowed: a readable text file']

    def test_an_environment_redis_replaces_that_of_the_file(self, write: Callable[[str], Path]) -> None:
        config = load({"REDIS_URL": "redis://new"}, write("REDIS_HOST=old\nREDIS_PORT=1\nREDIS_PASSWORD=p\n"))
        assert config.redis is not None
        assert (config.redis.addresses, config.redis.password) == ((("new", 6379),), "p")

    def test_an_environment_alias_wins_over_the_name_in_the_file(self, write: Callable[[str], Path]) -> None:
        config = load({"MAX_RETRIES": "5"}, write("RETRY_MAX_ATTEMPTS=2\n"))
        assert config.upstreams["default"].retry.max_attempts == 6


class TestAliases:
    @pytest.mark.parametrize(
        ("alias", "value", "read", "expected"),
        [
            ("TIMEOUT_THRESHOLD_MS", "2500", lambda up, _: up.attempt_timeout, 2.5),
            ("CIRCUIT_BREAKER_TIMEOUT", "60000", lambda up, _: up.breaker.reset_timeout, 60.0),
            ("CIRCUIT_BREAKER_THRESHOLD", "10", lambda up, _: up.breaker.failure_threshold, 10),
            ("MAX_RETRIES", "0", lambda up, _: up.retry.max_attempts, 1),
            ("WEBSOCKET_TIMEOUT_MS", "30000", lambda _, route: route.tunnel_stall_timeout, 30.0),
        ],
    )
    def test_units(self, alias: str, value: str, read: Callable[[Any, Any], float], expected: float) -> None:
        config = load({alias: value}, None)
        assert read(config.upstreams["default"], config.routes[0]) == expected
        same = {ALIASES[alias].target: str(expected), alias: value}
        assert load(same, None) == config

    def test_both_in_one_source_must_agree(self) -> None:
        config = load({"MAX_RETRIES": "2", "RETRY_MAX_ATTEMPTS": "3"}, None)
        assert config.upstreams["default"].retry.max_attempts == 3

    def test_contradiction(self) -> None:
        assert problems({"MAX_RETRIES": "3", "RETRY_MAX_ATTEMPTS": "3"}) == [
            (
                'environment MAX_RETRIES: "3"; allowed: 2 beside environment RETRY_MAX_ATTEMPTS, which says "3", '
                "because this one is counted without the first attempt; or set one of them"
            )
        ]

    @pytest.mark.parametrize("value", ["-1", "20", "1.5", "x", "²"])
    def test_ranges_are_in_the_alias_own_unit(self, value: str) -> None:
        assert problems({"MAX_RETRIES": value})[0].endswith("; allowed: an integer from 0 to 19")


class TestUnknownNames:
    @pytest.mark.parametrize(
        "name", ["PATH", "HOSTNAME", "HOME", "LANGUAGE", "NO_PROXY", "MAX_JOBS", "WEB_CONCURRENCY", "DEBUG"]
    )
    def test_other_programs_variables_are_left_alone(self, name: str) -> None:
        assert load({name: "x"}, None) == load({}, None)

    @pytest.mark.parametrize(
        ("name", "suggestion"),
        [
            ("RATE_LIMIT_CAPACTIY", "RATE_LIMIT_CAPACITY"),
            ("UPSTREAM_TIMOUT", "UPSTREAM_TIMEOUT"),
            ("UPSTREM_URL", "UPSTREAM_URL"),
            ("MAX_BODY_BYTE", "MAX_BODY_BYTES"),
            ("REDIS_PASSWROD", "REDIS_PASSWORD"),
        ],
    )
    def test_mistyped(self, name: str, suggestion: str) -> None:
        lines = problems({name: "hunter2"})
        assert lines == [
            f"environment {name}: unknown name; allowed: the names in .env.example; did you mean {suggestion}?"
        ]

    def test_what_kubernetes_adds_for_a_service(self) -> None:
        links = {
            "REDIS_PORT": "tcp://10.0.0.1:6379",
            "REDIS_PORT_6379_TCP": "tcp://10.0.0.1:6379",
            "REDIS_PORT_6379_TCP_ADDR": "10.0.0.1",
            "REDIS_SERVICE_HOST": "10.0.0.1",
            "REDIS_SERVICE_PORT": "6379",
            "REDIS_SERVICE_PORT_RESP": "6379",
            "UPSTREAM_PORT": "tcp://10.0.0.2:80",
            "UPSTREAM_SERVICE_HOST": "10.0.0.2",
        }
        assert load(links, None) == load({}, None)


ANY_IPV4 = "0.0.0.0"  # noqa: S104 - nothing here listens


class TestTheGatewayAsItsOwnUpstream:
    """Refused where it is certain on any machine: the same port, and an address that the listener must have."""

    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("", "http://127.0.0.1:5000"),
            ("", "http://localhost:5000/base"),
            ("", "http://LOCALHOST.:5000"),
            ("", "http://gateway.localhost:5000"),
            ("", "http://127.8.8.8:5000"),
            ("", "http://[::1]:5000"),
            ("", "http://[::ffff:127.0.0.1]:5000"),
            ("", "http://0.0.0.0:5000"),
            ("", "http://[::]:5000"),
            ("", "https://localhost:5000"),
            (ANY_IPV4, "http://127.0.0.1:5000"),
            (ANY_IPV4, "http://0.0.0.0:5000"),
            (ANY_IPV4, "http://localhost:5000"),
            ("::", "http://[::1]:5000"),
            ("::", "http://localhost:5000"),
            ("127.0.0.1", "http://127.0.0.1:5000"),
            ("127.0.0.1", "http://localhost:5000"),
            ("127.0.0.1", "http://0.0.0.0:5000"),
            ("::1", "http://[0:0::1]:5000"),
            ("localhost", "http://127.0.0.1:5000"),
            ("localhost", "http://[::1]:5000"),
            ("localhost", "http://localhost:5000"),
            ("10.0.0.5", "http://10.0.0.5:5000"),
            ("edge.example", "http://Edge.Example:5000"),
        ],
    )
    def test_refused(self, host: str, url: str) -> None:
        (line,) = problems({"HOST": host, "UPSTREAM_URL": url})
        assert line.startswith(f'environment UPSTREAM_URL: "{url}"; allowed: servers other than the gateway itself, ')

    @pytest.mark.parametrize(
        ("host", "url"),
        [
            ("", "http://127.0.0.1:5001"),
            ("", "http://localhost"),
            ("", "http://10.0.0.5:5000"),
            ("", "http://gateway:5000"),
            (ANY_IPV4, "http://[::1]:5000"),
            ("::", "http://127.0.0.1:5000"),
            ("127.0.0.1", "http://127.0.0.2:5000"),
            ("127.0.0.1", "http://[::1]:5000"),
            ("10.0.0.5", "http://127.0.0.1:5000"),
            ("10.0.0.5", "http://localhost:5000"),
            ("10.0.0.5", "http://10.0.0.6:5000"),
            ("edge.example", "http://localhost:5000"),
        ],
    )
    def test_another_server_or_not_certain(self, host: str, url: str) -> None:
        assert load({"HOST": host, "UPSTREAM_URL": url}, None)

    def test_the_line(self) -> None:
        assert problems({"UPSTREAM_URL": "http://10.0.0.5:5000, http://localhost:5000"}) == [
            (
                'environment UPSTREAM_URL: "http://10.0.0.5:5000, http://localhost:5000"; allowed: servers other than '
                "the gateway itself, which listens on localhost:5000"
            )
        ]

    def test_a_port_that_the_scheme_implies(self) -> None:
        assert problems({"UPSTREAM_URL": "https://localhost", "PORT": "443"}) == [
            (
                'environment UPSTREAM_URL: "https://localhost"; allowed: servers other than the gateway itself, '
                "which listens on localhost:443"
            )
        ]

    def test_the_port_is_to_blame_if_the_url_is_the_default(self) -> None:
        assert problems({"PORT": "5001"}) == [
            (
                'environment PORT: "5001"; allowed: another port than that of UPSTREAM_URL, which is '
                "http://127.0.0.1:5001 unless set"
            )
        ]
        assert load({"PORT": "5001", "HOST": "10.0.0.5"}, None)

    @pytest.mark.parametrize(
        "environ",
        [
            {"PORT": "x", "UPSTREAM_URL": "http://localhost:5000"},
            {"HOST": "a b", "UPSTREAM_URL": "http://localhost:5000"},
            {"PORT": "5001", "UPSTREAM_URL": "x"},
        ],
    )
    def test_nothing_follows_from_a_value_that_was_refused(self, environ: dict[str, str]) -> None:
        assert len(problems(environ)) == 1


class TestRelations:
    @pytest.mark.parametrize(
        ("environ", "line"),
        [
            (
                {"UPSTREAM_TIMEOUT": "60", "UPSTREAM_TOTAL_TIMEOUT": "30"},
                'environment UPSTREAM_TIMEOUT: "60"; allowed: at most UPSTREAM_TOTAL_TIMEOUT, which is 30 seconds',
            ),
            (
                {"TIMEOUT_THRESHOLD_MS": "60000", "UPSTREAM_TOTAL_TIMEOUT": "30s"},
                (
                    'environment TIMEOUT_THRESHOLD_MS: "60000"; allowed: at most UPSTREAM_TOTAL_TIMEOUT, which is 30 '
                    "seconds"
                ),
            ),
            (
                {"CIRCUIT_BREAKER_MINIMUM_CALLS": "200", "CIRCUIT_BREAKER_WINDOW_SIZE": "100"},
                (
                    'environment CIRCUIT_BREAKER_MINIMUM_CALLS: "200"; allowed: at most CIRCUIT_BREAKER_WINDOW_SIZE, '
                    "which is 100"
                ),
            ),
            (
                {"MAX_INFLIGHT_QUEUE": "5"},
                (
                    'environment MAX_INFLIGHT_QUEUE: "5"; allowed: 0, or set MAX_INFLIGHT_QUEUE_TIMEOUT_SECONDS to '
                    "more "
                    "than 0 as well"
                ),
            ),
            (
                {"BULKHEAD_QUEUE_TIMEOUT_SECONDS": "0"},
                'environment BULKHEAD_QUEUE_TIMEOUT_SECONDS: "0"; allowed: more than 0 while BULKHEAD_QUEUE is 64',
            ),
            (
                {"RATE_LIMIT_TTL": "1"},
                (
                    'environment RATE_LIMIT_TTL: "1"; allowed: at least RATE_LIMIT_CAPACITY / RATE_LIMIT_REFILL_RATE, '
                    "which is 2.5 seconds"
                ),
            ),
            (
                {"ADMIN_PORT": "5000"},
                'environment ADMIN_PORT: "5000"; allowed: another port than PORT',
            ),
            (
                {"ALERT_WEBHOOK_SECRET": "hunter2"},
                "environment ALERT_WEBHOOK_SECRET: ***; allowed: only with ALERT_WEBHOOK_URL",
            ),
            (
                {"MAX_CONNECTIONS": "10", "MAX_WEBSOCKET_CONNECTIONS": "20"},
                'environment MAX_WEBSOCKET_CONNECTIONS: "20"; allowed: at most MAX_CONNECTIONS, which is 10',
            ),
        ],
    )
    def test_reported(self, environ: dict[str, str], line: str) -> None:
        assert problems(environ) == [line]

    def test_defaults_give_way(self) -> None:
        config = load(
            {"UPSTREAM_TOTAL_TIMEOUT": "5", "CIRCUIT_BREAKER_WINDOW_SIZE": "10", "MAX_CONNECTIONS": "7"}, None
        )
        upstream = config.upstreams["default"]
        assert (upstream.attempt_timeout, upstream.breaker.minimum_calls, config.routes[0].max_tunnels) == (5, 10, 7)

    def test_whichever_of_a_pair_is_the_default_gives_way(self) -> None:
        config = load({"TIMEOUT_THRESHOLD_MS": "60000", "CIRCUIT_BREAKER_MINIMUM_CALLS": "200"}, None)
        upstream = config.upstreams["default"]
        assert (upstream.attempt_timeout, upstream.total_timeout, upstream.breaker.window_size) == (60, 60, 200)

    def test_the_lifetime_of_a_bucket_gives_way(self) -> None:
        policy = load({"RATE_LIMIT_CAPACITY": "100000", "RATE_LIMIT_REFILL_RATE": "3"}, None).rate_limits.policies
        assert policy["default"].max_ttl == 33_334

    def test_nothing_follows_from_a_value_that_was_refused(self) -> None:
        assert len(problems({"UPSTREAM_TIMEOUT": "60", "UPSTREAM_TOTAL_TIMEOUT": "x"})) == 1

    def test_rate_limit_off(self) -> None:
        assert load({"RATE_LIMIT_ENABLED": "false"}, None).routes[0].rate_limit is None

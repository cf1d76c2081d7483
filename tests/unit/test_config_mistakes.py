"""Mistakes that people make in `.env` and in the YAML file: what is said of each, and what is only worth a notice."""

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import ConfigError, Loaded, read
from gateway.config.building import near_misses
from gateway.config.building.variables import KNOWN

LINE = "; allowed: NAME=value, comments and empty lines"
UNKNOWN = "unknown name; allowed: the names in .env.example"
UPSTREAM = "upstreams:\n  a:\n    endpoints: ['h:1']\n"
ROUTE = "routes:\n  - {name: r, prefix: /r, upstream: a}\n"

Try = Callable[..., Loaded]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Try:
    """Read `.env` with this text, and `gateway.yaml` with that."""
    monkeypatch.chdir(tmp_path)

    def load(env: str | None = None, yaml: str | None = None, **environ: str) -> Loaded:
        if env is not None:
            Path(".env").write_bytes(env.encode())
        if yaml is not None:
            Path("gateway.yaml").write_text(yaml, encoding="utf-8")
            environ["GATEWAY_CONFIG"] = "gateway.yaml"
        return read(environ, Path(".env"))

    return load


def problems(loaded: Try, env: str | None = None, yaml: str | None = None, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        loaded(env, yaml, **environ)
    return str(caught.value).splitlines()


def notices(loaded: Try, env: str | None = None, yaml: str | None = None, **environ: str) -> list[str]:
    return [str(notice) for notice in loaded(env, yaml, **environ).notices]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "PORT=1\n\nPORT=2\n",
            ".env:3 PORT: a second time, with another value; allowed: each name once (first on line 1)",
        ),
        ("PORT: 5000", f".env:1: a colon after PORT, where = belongs{LINE}"),
        ("\nADMIN_TOKEN='hunter2", f".env:2: the quote ' of ADMIN_TOKEN is not closed{LINE}"),
        ('ADMIN_TOKEN="hunter2\nSERVICE_NAME="a"\n', f'.env:1: the quote " of ADMIN_TOKEN is not closed{LINE}'),
        ('SERVICE_NAME="x" hunter2', f".env:1: text behind the closing quote of SERVICE_NAME{LINE}"),
        ("=hunter2", f".env:1: no name before the ={LINE}"),
        ("PORT", f".env:1: PORT without = and a value{LINE}"),
        ("set PORT=5000", f".env:1: text after set, where = belongs{LINE}"),
        (
            "OPEN_DURATION_SECONDS=3",
            (f".env:1 OPEN_DURATION_SECONDS: {UNKNOWN}; did you mean CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS?"),
        ),
        (
            "VALIDATION_TIMEOUT_MS=3",
            '.env:1 VALIDATION_TIMEOUT_MS: "3"; allowed: an integer from 10 to 60000',
        ),
        ("TIMEOUT_SECONDS=3", f".env:1 TIMEOUT_SECONDS: {UNKNOWN}; did you mean UPSTREAM_TIMEOUT?"),
        ("ZZZ_SECONDS=3", f".env:1 ZZZ_SECONDS: {UNKNOWN}"),
        (
            "MAX_RETRIES=5\nRETRY_MAX_ATTEMPTS=5",
            (
                '.env:1 MAX_RETRIES: "5"; allowed: 4 beside .env:2 RETRY_MAX_ATTEMPTS, which says "5", because this '
                "one is counted without the first attempt; or set one of them"
            ),
        ),
        (
            "UPSTREAM_URL=http://${NOWHERE}:1",
            (
                ".env:1 UPSTREAM_URL: ${NOWHERE} is not set; allowed: a variable that the environment or .env sets, or "
                "${NOWHERE:-default}"
            ),
        ),
        (
            "UPSTREAM_URL=http://${H:1",
            (
                ".env:1 UPSTREAM_URL: a ${ that is not understood; allowed: ${NAME} or ${NAME:-default}; $${ for a "
                "literal ${"
            ),
        ),
        (
            f"A={'x' * 100}\nB={'${A}' * 100}\nSERVICE_NAME={'${B}' * 100}",
            ".env:3 SERVICE_NAME: references that make a very long value; allowed: at most 65536 characters in all",
        ),
        ("PORT=5000#c", '.env:1 PORT: "5000#c"; allowed: an integer from 1 to 65535'),
    ],
)
def test_a_line_of_the_env_file(loaded: Try, text: str, line: str) -> None:
    assert problems(loaded, text) == [line]
    assert "hunter2" not in line


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        # What all names of a section have in common makes none of them alike.
        *(("CIRCUIT_BREAKER_ENABLED", None), ("RATE_LIMIT_WINDOW_SECONDS", None), ("RETRY_TIMEOUT", None)),
        *(("REDIS_ENABLED", None), ("UPSTREAM_PASSWORD", None)),
        # Names of other gateways.
        *(("RATE_LIMIT_BURST", "RATE_LIMIT_CAPACITY"), ("RATE_LIMIT_RPS", "RATE_LIMIT_REFILL_RATE")),
        *(("BACKEND_URL", "UPSTREAM_URL"), ("ADMIN_PASSWORD", "ADMIN_TOKEN"), ("WEB_CONCURRENCY", "WORKERS")),
        *(("MAX_ATTEMPTS", "RETRY_MAX_ATTEMPTS"), ("SHUTDOWN_TIMEOUT_SECONDS", "DRAIN_TIMEOUT_SECONDS")),
        # Another unit, a letter too few or too many, a word that is missing.
        *(("REDIS_TIMEOUT_MS", "REDIS_TIMEOUT"), ("UPSTREAM_URLS", "UPSTREAM_URL"), ("WORKER", "WORKERS")),
        *(("IDLE_TIMEOUT", "CLIENT_IDLE_TIMEOUT_SECONDS"), ("RATELIMIT_CAPACITY", "RATE_LIMIT_CAPACITY")),
        ("CIRCUIT_BREAKER_FAILURE_TRESHOLD", "CIRCUIT_BREAKER_FAILURE_THRESHOLD"),
    ],
)
def test_which_variable_was_probably_meant(name: str, suggestion: str | None) -> None:
    assert near_misses.variable(name, KNOWN) == suggestion


def test_names_of_others_are_names_of_ours_here() -> None:
    assert set(near_misses.FOREIGN.values()) <= set(KNOWN)
    assert not set(near_misses.FOREIGN) & set(KNOWN)


def test_the_gateway_is_not_called_like_the_upstream_of_the_environment(loaded: Try) -> None:
    (line,) = problems(loaded, "SERVICE_NAME=default\nUPSTREAM_URL=http://h:1\n")
    assert line == ('.env:1 SERVICE_NAME: "default"; allowed: another name than that of the upstream of UPSTREAM_URL')


def test_what_is_no_mistake(loaded: Try) -> None:
    config = loaded("\ufeffexport PORT = 05002 # why\r\nSERVICE_NAME='a' # so\r\nACCESS_LOG=off\r\n").config
    assert (config.server.port, config.service, config.log.access_log) == (5002, "a", False)


def test_references(loaded: Try) -> None:
    env = "ORDERS=orders.example\nURL=http://${ORDERS}\nUPSTREAM_URL=${URL}:${UP_PORT:-81}\nREDIS_HOST=h\n"
    result = loaded(f"{env}REDIS_PASSWORD=a$b$${{c}}\n", UP_PORT="82")
    (endpoint,) = result.config.upstreams["default"].endpoints
    assert (endpoint.host, endpoint.port) == ("orders.example", 82)
    assert result.config.redis is not None
    assert result.config.redis.password == "a$b${c}"


def test_references_in_the_file(loaded: Try) -> None:
    yaml = (
        "upstreams:\n  a:\n    endpoints: ['${ORDERS}:1']\n    retry: {max_attempts: '${TRIES:-4}'}\n"
        "    max_connections: ${MOST}\n    tls: {verify: '${VERIFY}'}\n    scheme: https\n"
    )
    config = loaded("ORDERS=orders.example\nVERIFY=false\n", yaml + ROUTE, MOST="7").config
    upstream = config.upstreams["a"]
    assert (upstream.endpoints[0].host, upstream.retry.max_attempts, upstream.max_connections) == (
        "orders.example",
        4,
        7,
    )
    assert upstream.tls is not None
    assert not upstream.tls.verify


def test_a_reference_to_a_secret_is_refused_where_values_are_shown(loaded: Try) -> None:
    yaml = "upstreams:\n  a:\n    endpoints: ['${ADMIN_TOKEN}:1']\n" + ROUTE
    assert problems(loaded, "ADMIN_TOKEN=hunter2hunter2hunter2\n", yaml) == [
        (
            "gateway.yaml:3 upstreams.a.endpoints[0]: ${ADMIN_TOKEN} is a secret; allowed: variables whose values "
            "may be shown"
        )
    ]


def test_a_value_from_a_reference_is_shown_as_it_was_written(loaded: Try) -> None:
    (line,) = problems(loaded, None, f"{UPSTREAM}    max_connections: ${{MOST}}\n{ROUTE}", MOST="hunter2")
    assert line == 'gateway.yaml:4 upstreams.a.max_connections: "${MOST}"; allowed: an integer from 1 to 100000'


@pytest.mark.parametrize(
    ("entry", "suggestion"),
    [
        ("failure_threshold: 5", "breaker.failure_threshold"),
        ("FailureThreshold: 5", "breaker.failure_threshold"),
        ("OpenDurationSeconds: 5", "breaker.reset_timeout"),
        ("retries: 5", "retry.max_attempts"),
        ("servers: []", "endpoints"),
        ("capacity: 5", "rate_limits.NAME.capacity"),
        ("breaker: {max_attempts: 2}", "retry.max_attempts"),
        ("breaker: {reset_timout: 2}", "reset_timeout"),
        ("strip_prefix: true", "routes[…].strip_prefix"),
        ("UPSTREAM_TIMEOUT: 5", "UPSTREAM_TIMEOUT in the environment or .env"),
    ],
)
def test_a_key_of_an_upstream_that_belongs_elsewhere(loaded: Try, entry: str, suggestion: str) -> None:
    (line,) = problems(loaded, None, f"{UPSTREAM}    {entry}\n{ROUTE}")
    assert line.startswith("gateway.yaml:4 upstreams.a.")
    assert line.endswith(f"; did you mean {suggestion}?")


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [("path: /r", "prefix"), ("backend: a", "upstream"), ("timeouts: {}", "upstreams.NAME.timeouts"), ("zzz: 1", None)],
)
def test_a_key_of_a_route_that_belongs_elsewhere(loaded: Try, key: str, suggestion: str | None) -> None:
    lines = problems(loaded, None, f"{UPSTREAM}routes:\n  - {{name: r, prefix: /r, upstream: a, {key}}}\n")
    assert [line.endswith(f"; did you mean {suggestion}?") for line in lines] == [suggestion is not None]
    assert suggestion is not None or "did you mean" not in lines[0]


def test_no_rate_limit_may_be_said_in_words(loaded: Try) -> None:
    route = "routes:\n  - {name: r, prefix: /r, upstream: a, rate_limit: none}\n"
    assert loaded(None, UPSTREAM + route).config.routes[0].rate_limit is None
    (line,) = problems(loaded, None, f"{UPSTREAM}rate_limits:\n  none: {{capacity: 1}}\n{route}")
    assert line == 'gateway.yaml:5 rate_limits.none: "none"; allowed: another name: on a route it means no limit'


def test_problems_are_in_the_order_of_the_lines(loaded: Try) -> None:
    env = "ADMIN_PORT=x\nport=1\nRETRY_STATUSES=200\nPORT\n"
    yaml = f"routs: []\n{UPSTREAM}    breaker: {{failure_threshold: 0}}\n{ROUTE.replace('/r', 'r')}"
    assert [line.partition(": ")[0] for line in problems(loaded, env, yaml, LOG_LEVEL="x")] == [
        "environment LOG_LEVEL",
        ".env:1 ADMIN_PORT",
        ".env:2 port",
        ".env:3 RETRY_STATUSES",
        ".env:4",
        "gateway.yaml:1 routs",
        "gateway.yaml:5 upstreams.a.breaker.failure_threshold",
        "gateway.yaml:7 routes[0].prefix",
    ]


def test_a_link_to_nothing(loaded: Try) -> None:
    Path(".env").symlink_to("env.production")
    assert problems(loaded) == ['.env: a link to "env.production", which is not there; allowed: a file']


class TestNotices:
    def test_nothing_is_set_anywhere(self, loaded: Try) -> None:
        said = ".env: not there, and the environment sets nothing: every setting has its default"
        assert notices(loaded, None) == [said]
        assert notices(loaded, None, PORT="5005") == []

    def test_the_same_twice(self, loaded: Try) -> None:
        assert notices(loaded, "PORT=1\nPORT=1\n") == [".env:2 PORT: the same as on line 1; one of the two is enough"]

    @pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "routes:\n"])
    def test_a_file_that_says_nothing(self, loaded: Try, text: str) -> None:
        (line,) = notices(loaded, None, text)
        assert line.endswith(": sets nothing: no upstreams, no rate limits, no routes")

    def test_what_no_route_uses(self, loaded: Try) -> None:
        yaml = f"{UPSTREAM}  b:\n    endpoints: ['h:2']\nrate_limits:\n  few: {{capacity: 1}}\n{ROUTE}"
        expected = ["gateway.yaml:4 upstreams.b: no route uses it", "gateway.yaml:7 rate_limits.few: no route uses it"]
        assert notices(loaded, None, yaml) == expected
        assert notices(loaded, None, yaml, RATE_LIMIT_ENABLED="false") == expected[:1]

    def test_a_prefix_that_looks_like_a_pattern(self, loaded: Try) -> None:
        (line,) = notices(loaded, None, UPSTREAM + "routes:\n  - {name: r, prefix: /r/*, upstream: a}\n")
        assert line.startswith("gateway.yaml:5 routes[0].prefix: the * is an ordinary character")


def test_origins(loaded: Try) -> None:
    env = "UPSTREAM_TIMEOUT=60s\nADMIN_TOKEN=hunter2hunter2hunter2\nMAX_RETRIES=1\n"
    yaml = f"{UPSTREAM}    breaker: {{failure_threshold: 7}}\n{ROUTE}"
    found = {each.setting: (each.value, each.source) for each in loaded(env, yaml, PORT="5005").origins}
    assert found["PORT"] == ('"5005"', "environment PORT")
    assert found["UPSTREAM_TIMEOUT"] == ('"60s"', ".env:1 UPSTREAM_TIMEOUT")
    assert found["UPSTREAM_TOTAL_TIMEOUT"] == ("60", "default, gives way to UPSTREAM_TIMEOUT")
    assert found["ADMIN_TOKEN"] == ("***", ".env:2 ADMIN_TOKEN")
    assert found["RETRY_MAX_ATTEMPTS"] == ('"1"', ".env:3 MAX_RETRIES")
    assert found["BULKHEAD_LIMIT"] == ("1000", "default")
    assert found["upstreams.a.breaker.failure_threshold"] == ("7", "gateway.yaml:4")

"""The YAML file: its schema, its references, its place beside the environment, and the files that it names."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from gateway.config.model import GatewayConfig
from gateway.config.sections.routes.settings import CONTROL_PREFIXES
from gateway.config.sections.server.model import ListenerTls
from gateway.config.sections.upstreams.model import EndpointConfig, HealthCheckConfig, UpstreamTls
from gateway.control.paths import is_control_path
from gateway.policy.adaptive import AdaptiveSettings
from gateway.policy.limit import LimitSettings
from gateway.policy.token_bucket import RateLimitPolicy
from tests.support.certificates import require_openssl

REPOSITORY = Path(__file__).parents[2]

Load = Callable[..., GatewayConfig]
Refused = Callable[..., list[str]]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)

    def loaded(text: str, environ: Mapping[str, str] | None = None) -> GatewayConfig:
        Path("gateway.yaml").write_text(text, encoding="utf-8")
        return load({"GATEWAY_CONFIG": "gateway.yaml", **(environ or {})}, None)

    return loaded


@pytest.fixture
def refused(loaded: Load) -> Refused:
    def refused(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            loaded(text, environ)
        return str(caught.value).splitlines()

    return refused


def upstream(rest: str) -> str:
    return f"upstreams:\n  a:\n    endpoints: ['h:1']\n    {rest}\nroutes: [{{name: r, prefix: /r, upstream: a}}]\n"


def route(rest: str) -> str:
    return f"upstreams: {{a: {{endpoints: ['h:1']}}}}\nroutes:\n  - {{name: r, upstream: a, {rest}}}\n"


def test_the_example() -> None:
    config = load({"GATEWAY_CONFIG": str(REPOSITORY / "gateway.example.yaml")}, REPOSITORY / ".env.example")
    assert list(config.upstreams) == [
        "default",
        "orders",
        "payments",
        "search",
        "search-canary",
        "orders-shadow",
        "chat",
    ]
    routes = {route.name: route for route in config.routes}
    assert list(routes)[-1] == "proxy"
    assert len(routes) == 7
    assert routes["buy"].workflow is not None
    assert routes["chat"].rate_limit is None
    assert config.upstreams["payments"].tls == UpstreamTls(server_name="payments.internal.example")


def test_an_upstream_in_full(loaded: Load) -> None:
    text = """\
upstreams:
  a:
    endpoints: ["h:1", "https://[::1]:2", {host: i, port: 3, weight: 4}]
    scheme: https
    base_path: /base/
    authority: front.example
    tls: {verify: false, server_name: sni.example}
    balance: round_robin
    max_connections: 1
    keepalive_timeout: 2
    dns_ttl: 3
    timeouts: {connect: 1, attempt: 2, total: 3, idle: 4}
    retry: {max_attempts: 2, base_delay: 0.2, max_delay: 1, strategy: constant, statuses: [500], budget_ratio: 0.1,
            budget_min_per_second: 1}
    breaker: {failure_threshold: 2, slow_call_threshold: 0.5, minimum_calls: 3}
    bulkhead: {limit: 7, max_queue: 0, queue_timeout: 0, client_share: 1, adaptive: {mode: observe, min: 2, initial: 5}}
    ejection: {consecutive_failures: 1}
    health_check: {path: /health, interval: 3, timeout: 1}
"""
    config = loaded(text)
    up = config.upstreams["a"]
    assert up.endpoints == (EndpointConfig("h", 1), EndpointConfig("::1", 2), EndpointConfig("i", 3, 4))
    assert (up.base_path, up.authority, up.balance) == ("/base", "front.example", "round_robin")
    assert up.tls == UpstreamTls(verify=False, server_name="sni.example")
    assert (up.connect_timeout, up.attempt_timeout, up.total_timeout, up.idle_timeout) == (1, 2, 3, 4)
    assert (up.max_connections, up.keepalive_timeout, up.dns_ttl) == (1, 2, 3)
    assert (up.retry.statuses, up.budget.ratio, up.budget.min_per_second) == (frozenset({500}), 0.1, 1.0)
    assert (up.breaker.failure_threshold, up.breaker.slow_call_threshold, up.breaker.minimum_calls) == (2, 0.5, 3)
    assert up.bulkhead == LimitSettings(7)
    assert up.adaptive == AdaptiveSettings(enforce=False, min=2, initial=5)
    assert up.health_check == HealthCheckConfig("/health", 3, 1)
    assert list(config.upstreams) == ["default", "a"], "a file without routes keeps /proxy/"
    assert [route.name for route in config.routes] == ["proxy"]


def test_a_route_in_full(loaded: Load) -> None:
    config = loaded(
        route(
            "prefix: /p/, host: Api.Example, methods: [GET, PURGE], strip_prefix: true, preserve_host: true, "
            "rate_limit: null, websocket: true, max_tunnels: 5, tunnel_idle_timeout: 6, max_body_bytes: 7"
        )
    )
    (r,) = config.routes
    assert (r.prefix, r.host, r.methods) == ("/p/", "api.example", frozenset({"GET", "PURGE"}))
    assert (r.strip_prefix, r.preserve_host, r.rate_limit) == (True, True, None)
    assert (r.websocket, r.max_tunnels, r.tunnel_idle_timeout, r.max_body_bytes) == (True, 5, 6, 7)


class TestPrecedence:
    def test_file_then_environment_then_default(self, loaded: Load) -> None:
        environ = {"UPSTREAM_TIMEOUT": "7", "UPSTREAM_CONNECT_TIMEOUT": "3", "MAX_BODY_BYTES": "9"}
        config = loaded(upstream("timeouts: {connect: 1}"), environ)
        up = config.upstreams["a"]
        assert (up.connect_timeout, up.attempt_timeout, up.total_timeout) == (1, 7, 30)
        assert config.routes[0].max_body_bytes == 9
        assert config.routes[0].websocket is False, "WEBSOCKET_ENABLED is about /proxy/ alone"

    def test_routes_of_the_file_stand_alone_unless_upstream_url_is_set(self, loaded: Load) -> None:
        assert [r.name for r in loaded(route("prefix: /p")).routes] == ["r"]
        assert list(loaded(route("prefix: /p")).upstreams) == ["a"]
        with_url = loaded(route("prefix: /p"), {"UPSTREAM_URL": "http://x"})
        assert [r.name for r in with_url.routes] == ["r", "proxy"]
        assert list(with_url.upstreams) == ["default", "a"]

    def test_a_route_of_the_file_takes_the_place_of_proxy(self, loaded: Load) -> None:
        config = loaded(route("prefix: /proxy/"), {"UPSTREAM_URL": "http://x"})
        assert [r.name for r in config.routes] == ["r"]

    def test_the_file_tunes_default_and_the_environment_says_where(self, loaded: Load) -> None:
        text = "upstreams: {default: {breaker: {failure_threshold: 9}}}\n"
        up = loaded(text, {"UPSTREAM_URL": "https://x:1/y,https://z:1/y"}).upstreams["default"]
        assert up.endpoints == (EndpointConfig("x", 1), EndpointConfig("z", 1))
        assert (up.base_path, up.authority, up.breaker.failure_threshold) == ("/y", "x:1", 9)
        assert up.tls == UpstreamTls()

    def test_both_saying_where_is_a_problem(self, loaded: Load, refused: Refused) -> None:
        text = "upstreams:\n  default:\n    endpoints: ['h:1']\n"
        assert loaded(text).upstreams["default"].endpoints == (EndpointConfig("h", 1),)
        assert refused(text, {"UPSTREAM_URL": "http://x"}) == [
            (
                "gateway.yaml:3 upstreams.default.endpoints: a list; allowed: not together with environment "
                "UPSTREAM_URL; "
                "set one of them"
            )
        ]

    def test_rate_limits(self, loaded: Load) -> None:
        text = "rate_limits: {strict: {capacity: 5}, default: {refill_rate: 2}}\n" + route(
            "prefix: /p, rate_limit: strict"
        )
        config = loaded(text, {"RATE_LIMIT_REFILL_RATE": "4", "RATE_LIMIT_CAPACITY": "40"})
        assert config.rate_limits.policies == {
            "default": RateLimitPolicy("default", 40, 2),
            "strict": RateLimitPolicy("strict", 5, 4),
        }
        assert config.routes[0].rate_limit == "strict"
        assert loaded(text, {"RATE_LIMIT_ENABLED": "false"}).routes[0].rate_limit is None

    @pytest.mark.parametrize("text", ["", "# nothing\n", "upstreams:\nroutes:\nrate_limits:\n", "{}"])
    def test_an_empty_file_changes_nothing(self, loaded: Load, text: str) -> None:
        assert loaded(text) == load({}, None)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (
            "[]",
            (
                "gateway.yaml:1: a list; allowed: a mapping with upstreams, rate_limits, routes, tiers, tenants,"
                " consumers, issuers, workflows"
            ),
        ),
        (
            "upstream: {}\n",
            (
                "gateway.yaml:1 upstream: unknown name; allowed: upstreams, rate_limits, routes, tiers, tenants,"
                " consumers, issuers, workflows; did you mean upstreams?"
            ),
        ),
        ("routes: {}\n", "gateway.yaml:1 routes: a mapping; allowed: a list"),
        ("upstreams: []\n", "gateway.yaml:1 upstreams: a list; allowed: a mapping"),
        ("upstreams:\n  a: 5\n", "gateway.yaml:2 upstreams.a: 5; allowed: a mapping"),
        ("routes:\n  - x\n", 'gateway.yaml:2 routes[0]: "x"; allowed: a mapping'),
        (upstream("retry: 5"), "gateway.yaml:4 upstreams.a.retry: 5; allowed: a mapping"),
        (
            upstream("retry: {max_attempts: yes}"),
            'gateway.yaml:4 upstreams.a.retry.max_attempts: "yes"; allowed: an integer from 1 to 20',
        ),
        (
            upstream("retry: {max_attempts: true}"),
            "gateway.yaml:4 upstreams.a.retry.max_attempts: true; allowed: an integer from 1 to 20",
        ),
        (
            upstream("retry: {max_attempts: 2.0}"),
            "gateway.yaml:4 upstreams.a.retry.max_attempts: 2; allowed: an integer from 1 to 20",
        ),
        (
            upstream("timeouts: {connect: 10m}"),
            'gateway.yaml:4 upstreams.a.timeouts.connect: "10m"; allowed: a number from 0.001 to 300, in seconds',
        ),
        (
            upstream("timeouts: {connect: '1'}"),
            (
                'gateway.yaml:4 upstreams.a.timeouts.connect: "1"; allowed: a number from 0.001 to 300, in seconds; '
                "did you mean 1 without quotes?"
            ),
        ),
        (
            upstream("scheme: htps"),
            'gateway.yaml:4 upstreams.a.scheme: "htps"; allowed: http or https; did you mean https?',
        ),
        (
            upstream("tls: {verify: false}"),
            "gateway.yaml:4 upstreams.a.tls: a mapping; allowed: only with scheme: https",
        ),
        (
            upstream("scheme: https\n    tls: {verify: no}"),
            'gateway.yaml:5 upstreams.a.tls.verify: "no"; allowed: true or false; did you mean false?',
        ),
        (
            upstream("retry: {statuses: [200]}"),
            "gateway.yaml:4 upstreams.a.retry.statuses[0]: 200; allowed: statuses from 400 to 599",
        ),
        (
            upstream("timeouts: {attempt: 31, total: 30s}"),
            (
                "gateway.yaml:4 upstreams.a.timeouts.attempt: 31; allowed: at most upstreams.a.timeouts.total, which "
                "is 30 seconds"
            ),
        ),
        (
            upstream("health_check: {path: /h, interval: 1, timeout: 2}"),
            (
                "gateway.yaml:4 upstreams.a.health_check.timeout: 2; allowed: at most "
                "upstreams.a.health_check.interval, "
                "which is 1 seconds"
            ),
        ),
        (
            "rate_limits:\n  x: {capacity: 1000000, refill_rate: 1}\n",
            (
                "gateway.yaml:2 rate_limits.x.capacity: 1000000; allowed: such that rate_limits.x.capacity / "
                "rate_limits.x.refill_rate, which is 1e+06 seconds, is at most 604800, the most that a bucket is kept"
            ),
        ),
        (
            "upstreams:\n  'a b': {endpoints: ['h:1']}\n",
            (
                "gateway.yaml:2 upstreams.a b: \"a b\"; allowed: up to 64 letters, digits, '.', '_' or '-', "
                "beginning with "
                "a letter or digit"
            ),
        ),
        (
            route("prefix: /p, rate_limit: defalt"),
            'gateway.yaml:3 routes[0].rate_limit: "defalt"; allowed: default; did you mean default?',
        ),
        (
            route("prefix: /p, methods: [get]"),
            (
                'gateway.yaml:3 routes[0].methods[0]: "get"; allowed: HTTP methods in capitals, such as GET, POST, '
                "DELETE; "
                "not CONNECT; did you mean GET?"
            ),
        ),
        (
            route("prefix: /p, methods: []"),
            (
                "gateway.yaml:3 routes[0].methods: a list; allowed: a list of HTTP methods in capitals, such as "
                "GET, POST, "
                "DELETE; not CONNECT"
            ),
        ),
        (
            route("prefix: /p, host: 'a:1'"),
            'gateway.yaml:3 routes[0].host: "a:1"; allowed: a host name without port or wildcard, or an IP address',
        ),
        (
            "routes:\n  - {name: r, prefix: /p, upstream: nix}\n",
            'gateway.yaml:2 routes[0].upstream: "nix"; allowed: no names yet: the file defines none',
        ),
    ],
)
def test_one_problem(refused: Refused, text: str, line: str) -> None:
    assert refused(text) == [line]


def test_problems_do_not_hide_one_another(refused: Refused) -> None:
    text = """\
upstreams:
  orders:
    endpoints: ["h:1", "h:1", {host: a b, port: 0}]
    bulkhed: {}
  pay: {endpoints: ["https://p", "http://q"]}
routes:
  - {name: a, prefix: /a, upstream: ordrs}
  - {name: a, prefix: /a, upstream: pay}
  - {name: c, upstream: orders}
"""
    lines = refused(text, {"PORT": "x"})
    assert [line.split(": ")[0] for line in lines] == [
        "environment PORT",
        "gateway.yaml:3 upstreams.orders.endpoints[2].host",
        "gateway.yaml:3 upstreams.orders.endpoints[2].port",
        "gateway.yaml:4 upstreams.orders.bulkhed",
        "gateway.yaml:5 upstreams.pay.endpoints[1]",
        "gateway.yaml:7 routes[0].upstream",
        "gateway.yaml:8 routes[1].name",
        "gateway.yaml:8 routes[1].prefix",
        "gateway.yaml:9 routes[2].prefix",
    ]
    assert lines[3].endswith("; did you mean bulkhead?")
    assert lines[5].endswith("; did you mean orders?")


@pytest.mark.parametrize("endpoint", ["h", "h:0", "h:x", "u@h:1", "http://h/x", "ftp://h:1", "::1:80", "h:1/x", "[h:1"])
def test_endpoints_that_are_refused(refused: Refused, endpoint: str) -> None:
    (line,) = refused(f"upstreams: {{a: {{endpoints: ['{endpoint}']}}}}\n")
    assert line.startswith("gateway.yaml:1 upstreams.a.endpoints[0]: ")


def test_an_upstream_with_the_name_of_the_gateway(refused: Refused) -> None:
    (line,) = refused("upstreams: {gateway: {endpoints: ['h:80']}}\n")
    assert line.startswith('gateway.yaml:1 upstreams.gateway: "gateway"; allowed: another name than the gateway')


def test_an_endpoint_twice(refused: Refused) -> None:
    (line,) = refused("upstreams: {a: {endpoints: ['h:80', 'http://H']}}\n")
    assert line.endswith("; allowed: each endpoint once; it is upstreams.a.endpoints[0] too")


@pytest.mark.parametrize(
    ("endpoints", "place", "shown"),
    [
        ("['h:1', 'localhost:5000']", "endpoints[1]", "http://localhost:5000"),
        ("['https://[::1]:5000']", "endpoints[0]", "https://[::1]:5000"),
        ("[{host: 127.0.0.1, port: 5000}]", "endpoints[0]", "http://127.0.0.1:5000"),
    ],
)
@pytest.mark.parametrize("name", ["a", "default"])
def test_an_endpoint_that_is_the_gateway_itself(
    loaded: Load, refused: Refused, name: str, endpoints: str, place: str, shown: str
) -> None:
    text = f"upstreams: {{{name}: {{endpoints: {endpoints}}}}}\n"
    where = shown.partition("//")[2]
    assert refused(text) == [
        (
            f'gateway.yaml:1 upstreams.{name}.{place}: "{shown}"; allowed: servers other than the gateway itself, '
            f"which listens on {where}"
        )
    ]
    assert loaded(text, {"PORT": "5005"})


def test_a_url_that_is_the_gateway_itself_behind_an_upstream_of_the_file(loaded: Load, refused: Refused) -> None:
    text = "upstreams: {default: {balance: round_robin}}\n"
    (line,) = refused(text, {"UPSTREAM_URL": "http://localhost:5000"})
    assert line.startswith('environment UPSTREAM_URL: "http://localhost:5000"; allowed: servers other than ')
    (line,) = refused(text, {"PORT": "5001"})
    assert line.startswith('environment PORT: "5001"; allowed: another port than that of UPSTREAM_URL')
    assert loaded(route("prefix: /p"), {"PORT": "5001"}), "nothing goes to the default of UPSTREAM_URL"


@pytest.mark.parametrize(
    "prefix", ["p", "/a?b", "/a#b", "/a/../b", "/./", "/a/%2E%2e/b", "//a", "/a//b", "/ä", "/a b", "/%g1"]
)
def test_prefixes_that_are_refused(refused: Refused, prefix: str) -> None:
    (line,) = refused(route(f"prefix: '{prefix}'"))
    assert line.startswith("gateway.yaml:3 routes[0].prefix: ")


@pytest.mark.parametrize("prefix", [*CONTROL_PREFIXES, "/health/", "/status/breakers", "/api/admin/x"])
def test_prefixes_of_the_gateway_itself(refused: Refused, prefix: str) -> None:
    (line,) = refused(route(f"prefix: {prefix}, host: h"))
    assert "which the gateway answers itself" in line


def test_the_gateway_does_answer_them_itself() -> None:
    assert [prefix for prefix in CONTROL_PREFIXES if not is_control_path(prefix.encode())] == []


@pytest.mark.parametrize(
    "prefix", ["/", "/healthz", "/api", "/api/", "/api/administration", "/status", "/a/%2F/..b/.c"]
)
def test_prefixes_near_those_are_free(loaded: Load, prefix: str) -> None:
    assert loaded(route(f"prefix: {prefix}")).routes[0].prefix == prefix


def test_the_same_prefix_on_another_host_is_another_route(loaded: Load) -> None:
    text = route("prefix: /p") + "  - {name: s, upstream: a, prefix: /p, host: h}\n"
    assert len(loaded(text).routes) == 2


@pytest.fixture(scope="module")
def pem_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a self-signed certificate and its key, the key of no certificate, and neither."""
    require_openssl()
    directory = tmp_path_factory.mktemp("pem")
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    for name, form in (("cert", ("-x509", "-days", "2")), ("other-request", ())):
        key = "key.pem" if name == "cert" else "other.pem"
        subprocess.run(
            ["openssl", "req", *form, *new_key, "-subj", "/CN=localhost", "-keyout", key, "-out", f"{name}.pem"],
            cwd=directory,
            check=True,
            capture_output=True,
        )
    (directory / "junk.pem").write_text("junk")
    return directory


class TestFiles:
    @pytest.fixture(autouse=True)
    def pem(self, pem_files: Path, tmp_path: Path) -> None:
        for name in ("cert.pem", "key.pem", "other.pem", "junk.pem"):
            shutil.copy(pem_files / name, tmp_path)

    def test_good_ones(self, loaded: Load) -> None:
        tls = "scheme: https\n    tls: {ca_file: cert.pem, cert_file: cert.pem, key_file: key.pem}"
        environ = {"TLS_CERT_FILE": "cert.pem", "TLS_KEY_FILE": "key.pem", "UPSTREAM_CA_FILE": "cert.pem"}
        environ |= {"UPSTREAM_URL": "https://x", "UPSTREAM_CERT_FILE": "cert.pem", "UPSTREAM_KEY_FILE": "key.pem"}
        environ |= {"REDIS_URL": "rediss://h", "REDIS_TLS_CA_FILE": "cert.pem"}
        config = loaded(upstream(tls), environ)
        assert config.server.tls == ListenerTls("cert.pem", "key.pem")
        expected = UpstreamTls(ca_file="cert.pem", cert_file="cert.pem", key_file="key.pem")
        assert config.upstreams["a"].tls == config.upstreams["default"].tls == expected
        assert config.redis is not None
        assert config.redis.tls_ca_file == "cert.pem"

    @pytest.mark.parametrize(
        ("environ", "line"),
        [
            ({"TLS_CERT_FILE": "cert.pem"}, 'TLS_CERT_FILE: "cert.pem"; allowed: only together with TLS_KEY_FILE'),
            ({"TLS_KEY_FILE": "key.pem"}, 'TLS_KEY_FILE: "key.pem"; allowed: only together with TLS_CERT_FILE'),
            (
                {"TLS_CERT_FILE": "cert.pem", "TLS_KEY_FILE": "nix"},
                'TLS_KEY_FILE: "nix"; allowed: the path of a readable file',
            ),
            (
                {"TLS_CERT_FILE": "cert.pem", "TLS_KEY_FILE": "other.pem"},
                (
                    'TLS_CERT_FILE: "cert.pem"; allowed: a PEM certificate that goes with the unencrypted PEM key in '
                    "TLS_KEY_FILE"
                ),
            ),
            (
                {"UPSTREAM_URL": "https://x", "UPSTREAM_CA_FILE": "junk.pem"},
                'UPSTREAM_CA_FILE: "junk.pem"; allowed: a file of CA certificates in PEM form',
            ),
            (
                {"REDIS_URL": "rediss://h", "REDIS_TLS_CA_FILE": "nix"},
                'REDIS_TLS_CA_FILE: "nix"; allowed: the path of a readable file',
            ),
        ],
    )
    def test_bad_ones(self, refused: Refused, environ: dict[str, str], line: str) -> None:
        assert refused("", environ) == [f"environment {line}"]

    def test_a_bad_one_in_the_file(self, refused: Refused) -> None:
        assert refused(upstream("scheme: https\n    tls: {ca_file: junk.pem}")) == [
            'gateway.yaml:5 upstreams.a.tls.ca_file: "junk.pem"; allowed: a file of CA certificates in PEM form'
        ]

    def test_the_file_itself(self, refused: Refused) -> None:
        assert refused("", {"GATEWAY_CONFIG": "gatway.yaml"}) == [
            (
                'environment GATEWAY_CONFIG: "gatway.yaml"; allowed: the path of a readable YAML file in UTF-8; '
                "did you mean gateway.yaml?"
            )
        ]
        (line,) = refused("a: [\n")
        assert line.startswith("gateway.yaml:2: ")


UPSTREAM_ALONE = 'upstreams: {a: {endpoints: ["h:1"]}}\n'


def test_one_host_in_two_spellings_is_one_host(refused: Refused) -> None:
    routes = "".join(
        f"  - {{name: r{index}, host: {host!r}, prefix: /x, upstream: a}}\n"
        for index, host in enumerate(("shop.test", "SHOP.test.", "::1", "0:0:0:0:0:0:0:1"))
    )
    lines = refused(UPSTREAM_ALONE + f"routes:\n{routes}")
    assert ["routes[0] has the same" in lines[0], "routes[2] has the same" in lines[1]] == [True, True]


def test_pages_of_any_origin_may_not_come_with_credentials(refused: Refused) -> None:
    rest = "{name: r, prefix: /x, upstream: a, cors: {origins: ['*'], credentials: true}}"
    (line,) = refused(UPSTREAM_ALONE + f"routes:\n  - {rest}\n")
    assert "routes[0].cors.credentials" in line
    assert "routes[0].cors.origins without *" in line
    (line,) = refused(upstream(""), {"CORS_ORIGINS": "*,https://a.example"})
    assert "CORS_ORIGINS" in line


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://App.example:443", "https://app.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://*.app.example", "https://*.app.example"),
        ("http://[0:0::1]:80", "http://[::1]"),
        ("capacitor://localhost", "capacitor://localhost"),
    ],
)
def test_origins_are_spelled_as_browsers_do(loaded: Load, text: str, origin: str) -> None:
    assert loaded("", {"CORS_ORIGINS": text, "UPSTREAM_URL": "http://a:1"}).routes[0].cors.origins == (origin,)


@pytest.mark.parametrize(
    "text", ["app.example", "null", "https://a.example/x", "https://", "https://u@a.example", "https://a*"]
)
def test_what_is_no_origin(refused: Refused, text: str) -> None:
    (line,) = refused(upstream(""), {"CORS_ORIGINS": text})
    assert "origins such as https://app.example" in line

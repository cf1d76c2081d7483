"""Names, paths and fields as a client and an upstream see them, through a gateway process."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_upstream import FakeUpstream, ReadRequest, Send, respond
from tests.support.gateway_process import GatewayProcess
from tests.support.ports import free_port
from tests.support.raw_http import RawClient
from tests.support.raw_response import RawResponse

SERVE = [step for _ in range(60) for step in (ReadRequest(), Send(respond(b"ok")))]
ROUTES = """
upstreams:
  shop: {{endpoints: ["127.0.0.1:{port}"], base_path: /v2/public}}
routes:
  - {{name: public, prefix: /api/public, upstream: shop, strip_prefix: true}}
  - {{name: raw, prefix: /raw, upstream: shop, path_dots: pass}}
  - {{name: six, host: "0:0:0:0:0:0:0:1", prefix: /six, upstream: shop}}
  - {{name: named, host: Shop.Test., prefix: /named, upstream: shop, preserve_host: true}}
  - name: pages
    prefix: /pages
    upstream: shop
    methods: [GET]
    cors: {{origins: ["https://app.example"]}}
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    with FakeUpstream(SERVE) as running:
        yield running


@pytest.fixture(scope="module")
def gateway(upstream: FakeUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory: Path = tmp_path_factory.mktemp("names")
    (directory / "routes.yaml").write_text(ROUTES.format(port=upstream.port))
    variables = {"GATEWAY_CONFIG": "routes.yaml", "RATE_LIMIT_ENABLED": "false"}
    with GatewayProcess(variables, directory) as process:
        yield process


def ask(gateway: GatewayProcess, target: str, *lines: str, method: str = "GET", host: str = "shop.test") -> RawResponse:
    head = "\r\n".join((f"{method} {target} HTTP/1.1", f"Host: {host}", *lines, "", ""))
    with RawClient(gateway.port) as client:
        return client.request(head.encode("latin-1"), method)


def forwarded(upstream: FakeUpstream, gateway: GatewayProcess, mark: str, *lines: str) -> dict[str, list[str]]:
    """The fields that the upstream got of a request, by name in lower case."""
    assert ask(gateway, f"/api/public/{mark}", *lines).status == 200
    (head,) = (h for c in upstream.connections for h in c.heads if f"/v2/public/{mark} ".encode() in h)
    found: dict[str, list[str]] = {}
    for line in head.decode("latin-1").split("\r\n")[1:-2]:
        name, _, value = line.partition(": ")
        found.setdefault(name.lower(), []).append(value)
    return found


@pytest.mark.parametrize("host", ["[::1]", "[::1]:8080", "[0:0:0:0:0:0:0:1]", "[::0001]:"])
def test_every_spelling_of_an_address_is_the_route_s_host(gateway: GatewayProcess, host: str) -> None:
    assert ask(gateway, "/six", host=host).status == 200
    assert ask(gateway, "/six", host="[::2]").status == 404


@pytest.mark.parametrize("host", ["shop.test", "SHOP.test.", "shop.test.:8080", "Shop.test:"])
def test_every_spelling_of_a_name_is_the_route_s_host(gateway: GatewayProcess, host: str) -> None:
    assert ask(gateway, "/named", host=host).status == 200
    assert ask(gateway, f"http://{host}/named", host="other.test").status == 200
    explained = gateway.get(f"/api/resilience/explain?path=/named&host={host}").json()
    assert explained["route"] == "named"


def test_a_host_that_could_be_read_as_another_is_refused(gateway: GatewayProcess) -> None:
    assert ask(gateway, "/named", host="%73hop.test").status == 400
    assert ask(gateway, "/named", host="u@shop.test").status == 400


def test_what_says_where_a_request_came_from_is_ours(gateway: GatewayProcess, upstream: FakeUpstream) -> None:
    claims = (
        *("X-Real-IP", "X-Client-IP", "True-Client-IP", "X-Cluster-Client-IP", "CF-Connecting-IP", "Forwarded"),
        *("X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Prefix"),
        *("X-Forwarded-Ssl", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-User", "X-Original-URL"),
        *("X-Rewrite-URL", "Front-End-Https", "Proxy", "X-Forwarded-Anything"),
        *("X-Forwarded", "Forwarded-For"),
    )
    lines = [f"{name}: 6.6.6.6" for name in claims]
    lines += [f"{name.replace('-', '_')}: 6.6.6.6" for name in claims]
    lines += [f"{name.replace('-', '.')}: 6.6.6.6" for name in claims]
    lines += ["X_Request_ID: 6.6.6.6", "Content_Length: 66", "Transfer_Encoding: 6.6.6.6", "My_Field: 1"]
    got = forwarded(upstream, gateway, "claims", *lines, f"Connection: {', '.join(claims)}")
    assert not [name for name, values in got.items() if any("6.6" in value for value in values)]
    assert got["x-forwarded-for"] == got["x-real-ip"] == ["127.0.0.1"]
    assert got["x-forwarded-proto"] == ["http"]
    assert got["x-forwarded-host"] == ["shop.test"]
    assert got["x-forwarded-port"] == ["80"]
    assert got["x-forwarded-prefix"] == ["/api/public"]
    assert got["my_field"] == ["1"]
    assert {"x-forwarded-user", "x-original-url", "forwarded", "proxy", "content_length"}.isdisjoint(got)


@pytest.mark.parametrize(
    "path", ["/../../admin", "/%2e%2e/x", "/..;/x", "/x/..%2f..%2fadmin", "/%252e%252e/x", "/..%5cx", "/./x", "/x%00"]
)
def test_a_path_that_could_leave_its_prefix(gateway: GatewayProcess, upstream: FakeUpstream, path: str) -> None:
    before = len(upstream.received)
    response = ask(gateway, f"/api/public{path}")
    assert response.status == 400
    assert json.loads(response.body)["reason"] == "bad_request"
    assert len(upstream.received) == before
    assert ask(gateway, f"/raw{path}").status == 200  # its route lets it pass, byte for byte
    assert f"GET /v2/public/raw{path} HTTP/1.1".encode() in upstream.received


def test_a_query_is_no_path(gateway: GatewayProcess, upstream: FakeUpstream) -> None:
    assert ask(gateway, "/api/public/q?file=..%2f..%2fetc/../x").status == 200
    assert b"GET /v2/public/q?file=..%2f..%2fetc/../x HTTP/1.1" in upstream.received


def test_max_forwards(gateway: GatewayProcess, upstream: FakeUpstream) -> None:
    before = len(upstream.received)
    response = ask(gateway, "/api/public/t", "Max-Forwards: 0", "Cookie: secret", method="TRACE")
    assert (response.status, response.get("Content-Type")) == (200, "message/http")
    assert response.body.startswith(b"TRACE /api/public/t HTTP/1.1\r\n")
    assert b"secret" not in response.body
    line = json.loads(gateway.wait_for_line(str(response.get("X-Request-ID"))))
    assert (line["status"], line["decisions"], line["reason"]) == (200, {"max_forwards": "answered"}, None)
    assert ask(gateway, "/api/public/t", "Max-Forwards: 0", method="OPTIONS").get("Content-Length") == "0"
    assert ask(gateway, "/api/public/t", "Max-Forwards: x", method="OPTIONS").status == 400
    assert len(upstream.received) == before
    assert ask(gateway, "/api/public/t", "Max-Forwards: 3", method="OPTIONS").status == 200
    assert ask(gateway, "/api/public/t", "Max-Forwards: 0").status == 200
    assert upstream.received.count(b"Max-Forwards: 2\r\n") == 1
    assert upstream.received.count(b"Max-Forwards: 0\r\n") == 1


def test_pages_of_an_origin_that_is_allowed(gateway: GatewayProcess, upstream: FakeUpstream) -> None:
    before = len(upstream.received)
    page = "Origin: https://app.example"
    preflight = ask(gateway, "/pages/x", page, "Access-Control-Request-Method: GET", method="OPTIONS")
    assert (preflight.status, preflight.get("Access-Control-Allow-Methods")) == (204, "GET")
    refused = ask(gateway, "/pages/x", page, method="DELETE")
    assert (refused.status, refused.get("Access-Control-Allow-Origin")) == (405, "https://app.example")
    assert "Retry-After" in str(refused.get("Access-Control-Expose-Headers"))
    assert len(upstream.received) == before
    answered = ask(gateway, "/pages/x", page)
    assert (answered.status, answered.get("Access-Control-Allow-Origin")) == (200, "https://app.example")
    assert ask(gateway, "/pages/x", "Origin: https://evil.example").get("Access-Control-Allow-Origin") is None
    assert ask(gateway, "/pages/x").get("Vary") == "Origin"


def test_an_upstream_that_speaks_to_pages_itself(tmp_path: Path) -> None:
    own = respond(b"ok", 200, b"Access-Control-Allow-Origin: https://theirs.example")
    with FakeUpstream([ReadRequest(), Send(own), ReadRequest(), Send(own)]) as speaking:
        variables = {"UPSTREAM_URL": speaking.url, "CORS_ORIGINS": "https://app.example", "RATE_LIMIT_CAPACITY": "1"}
        with GatewayProcess(variables | {"RATE_LIMIT_REFILL_RATE": "0.01"}, tmp_path) as gateway:
            answered = ask(gateway, "/proxy/x", "Origin: https://app.example")
            assert answered.get("Access-Control-Allow-Origin") == "https://theirs.example"
            limited = ask(gateway, "/proxy/x", "Origin: https://app.example")
            assert (limited.status, limited.get("Access-Control-Allow-Origin")) == (429, "https://app.example")


@pytest.mark.parametrize(("public", "allowed"), [("true", "*"), ("false", None)])
def test_refusals_of_a_route_that_says_nothing_of_pages(tmp_path: Path, public: str, allowed: str | None) -> None:
    variables = {"UPSTREAM_URL": "http://127.0.0.1:1", "CORS_PUBLIC_REFUSALS": public, "RETRY_MAX_ATTEMPTS": "1"}
    with GatewayProcess(variables, tmp_path) as gateway:
        refused = ask(gateway, "/proxy/x", "Origin: https://app.example")
        assert (refused.status, refused.get("Access-Control-Allow-Origin")) == (502, allowed)
        assert refused.get("Access-Control-Allow-Credentials") is None
        assert ask(gateway, "/proxy/x").get("Access-Control-Allow-Origin") is None
        nowhere = ask(gateway, "/nowhere", "Origin: https://app.example")
        assert (nowhere.status, nowhere.get("Access-Control-Allow-Origin")) == (404, allowed)


@pytest.mark.parametrize("rewrite", [True, False])
def test_a_redirect_to_the_upstream_s_own_address(tmp_path: Path, rewrite: bool) -> None:
    port = free_port()
    location = f"http://127.0.0.1:{port}/base/login?x=1"
    redirect = respond(b"", 302, b"Location: " + location.encode())
    with FakeUpstream([step for _ in range(4) for step in (ReadRequest(), Send(redirect))], port=port) as upstream:
        variables = {"UPSTREAM_URL": f"{upstream.url}/base", "REWRITE_REDIRECTS": str(rewrite).lower()}
        with GatewayProcess(variables | {"TRUSTED_PROXIES": "127.0.0.1"}, tmp_path) as gateway:

            def told(*lines: str) -> str | None:
                return ask(gateway, "/proxy/app", *lines, host="shop.test:8443").get("Location")

            assert told() == ("http://shop.test:8443/proxy/login?x=1" if rewrite else location)
            if not rewrite:
                return
            outside = ("X-Forwarded-Proto: https", "X-Forwarded-Host: a.test, b.test", "X-Forwarded-Prefix: /outer/")
            assert told(*outside) == "https://a.test/outer/proxy/login?x=1"
            # What no authority and no prefix can be is not repeated.
            assert told("X-Forwarded-Host: a\\evil") == "http://shop.test:8443/proxy/login?x=1"
            assert told("X-Forwarded-Prefix: //evil") == "http://shop.test:8443/proxy/login?x=1"


@pytest.mark.parametrize("trusted", ["127.0.0.1", "::ffff:127.0.0.1", "::ffff:127.0.0.0/104"])
def test_clients_that_no_limit_is_for(tmp_path: Path, trusted: str) -> None:
    with FakeUpstream(SERVE) as upstream:
        variables = {"UPSTREAM_URL": upstream.url, "RATE_LIMIT_CAPACITY": "1", "RATE_LIMIT_REFILL_RATE": "0.01"}
        variables |= {"TRUSTED_PROXIES": trusted, "RATE_LIMIT_EXEMPT": "192.0.2.0/24, ::ffff:198.51.100.7"}
        with GatewayProcess(variables, tmp_path) as gateway:
            for client in ("192.0.2.9", "::ffff:192.0.2.9", "198.51.100.7", "64:ff9b::192.0.2.9"):
                for _ in range(2):
                    answered = ask(gateway, "/proxy/x", f"X-Forwarded-For: {client}")
                    assert (answered.status, answered.get("RateLimit")) == (200, None)
            line = json.loads(gateway.wait_for_line(str(answered.get("X-Request-ID"))))
            assert (line["client"], line["decisions"]) == ("192.0.2.9", {"rate_limit": "exempt"})
            others = [ask(gateway, "/proxy/x", "Forwarded: for=203.0.113.1").status for _ in range(2)]
            assert others == [200, 429]
            metrics = gateway.get("/metrics").body.decode()
            assert 'rate_limit_decisions_total{policy="default",decision="exempt"} 8' in metrics
            explained = gateway.get("/api/resilience/explain?path=/proxy/x&client=64:ff9b::192.0.2.9").json()
            assert "exempt" in [step["decision"] for step in explained["steps"]]


def test_fields_with_underscores_can_all_be_dropped(tmp_path: Path) -> None:
    with FakeUpstream(SERVE) as upstream:
        variables = {"UPSTREAM_URL": upstream.url, "HEADERS_WITH_UNDERSCORES": "drop"}
        with GatewayProcess(variables, tmp_path) as gateway:
            assert ask(gateway, "/proxy/x", "My_Field: 1", "My-Field: 2").status == 200
        assert b"My_Field" not in upstream.received
        assert b"My-Field: 2" in upstream.received


def test_fields_for_pages_of_others_leave_the_upstream_s_limits_alone(tmp_path: Path) -> None:
    with FakeUpstream([ReadRequest(), Send(respond(b"ok", 200, b"RateLimit: theirs"))]) as limited:
        (tmp_path / "routes.yaml").write_text(ROUTES.format(port=limited.port))
        with GatewayProcess({"GATEWAY_CONFIG": "routes.yaml", "RATE_LIMIT_ENABLED": "false"}, tmp_path) as gateway:
            answer = ask(gateway, "/pages/x", "Origin: https://app.example")
    assert answer.get("Access-Control-Allow-Origin") == "https://app.example"
    assert answer.all("RateLimit") == ["theirs"]

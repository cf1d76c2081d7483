"""Header fields and paths that routes and upstreams change, as clients and upstreams see them."""

import json
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import ProgrammedUpstream, fresh, ok
from tests.support.gateway_process import GatewayProcess


@pytest.fixture(scope="module")
def gateway(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    directory = tmp_path_factory.mktemp("gateway")
    at = {"endpoints": [f"127.0.0.1:{upstream.port}"]}
    of_upstream = {"set": {"Authorization": "Bearer ${PROVIDER_KEY}", "X-Both": "upstream"}, "remove": ["Cookie"]}
    of_request = {"set": {"X-Both": "route", "X-Role": "guest"}, "append": {"Accept": "b/b"}}
    of_answer = {"set": {"Cache-Control": "no-store"}, "append": {"Vary": "Accept"}, "remove": ["Server"]}
    common = {"prefix": "/a", "strip_prefix": True, "request_headers": of_request, "response_headers": of_answer}
    routes = [
        {"name": "a", "upstream": "a", **common},
        {"name": "b", "upstream": "a", **common, "prefix": "/b", "fallback": {"upstream": "b"}},
        {"name": "paths", "prefix": "/paths", "upstream": "b", "strip_prefix": True, "rewrite": REWRITE},
    ]
    upstreams = {"a": {**at, "request_headers": of_upstream}, "b": {**at, "base_path": "/b"}}
    (directory / "gateway.yaml").write_text(yaml.safe_dump({"upstreams": upstreams, "routes": routes}))
    env = {**plain(upstream.url), "GATEWAY_CONFIG": "gateway.yaml", "PROVIDER_KEY": "k3y"}
    with GatewayProcess(env, directory) as process:
        yield process


REWRITE = [
    {"path": "/paths/users/{id}", "to": "/profile/{id}"},
    {"path": "/paths/users/{id}/{rest*}", "to": "/{id}/{rest}"},
]
CLIENTS = {"Authorization": "Bearer own", "Cookie": "a=b", "Accept": "a/a", "X_Role": "admin", "X-Other": "c"}


def test_what_the_upstream_gets(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    gateway.request("GET", f"/a{(path := fresh())}", None, CLIENTS)
    seen = upstream.only(path)
    assert seen.get("Authorization") == "Bearer k3y"
    assert seen.get("Cookie") is None
    assert seen.all("Accept") == ["a/a", "b/b"]
    assert (seen.get("X-Role"), seen.get("X_Role")) == ("guest", None)
    # The upstream's own word comes last.
    assert seen.get("X-Both") == "upstream"
    assert seen.get("X-Other") == "c"


def test_what_the_client_gets(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), ok(b"", b"Server: s", b"Cache-Control: max-age=1", b"Vary: Origin", b"X-Other: c"))
    answer = gateway.get(f"/a{path}")
    assert answer.headers.get_all("Cache-Control") == ["no-store"]
    assert answer.headers.get_all("Vary") == ["Origin", "Accept"]
    assert (answer.headers["Server"], answer.headers["X-Other"]) == (None, "c")


def test_a_key_goes_to_its_own_upstream_alone(gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), ok(status=503))
    gateway.request("GET", f"/b{path}", None, {"X-Other": "c"})
    assert upstream.only(path).get("Authorization") == "Bearer k3y"
    seen = upstream.only(f"/b{path}")
    assert (seen.get("Authorization"), seen.get("X-Both"), seen.get("X-Role")) == (None, "route", "guest")


@pytest.mark.parametrize(
    ("asked", "sent", "prefix"),
    [
        ("/users/7?a=%2f&b", "/b/profile/7?a=%2f&b", None),
        ("/users/7/x%2fy/z?", "/b/7/x%2fy/z?", None),
        # No template is meant: what the route strips is taken off.
        ("/other/7", "/b/other/7", "/paths"),
    ],
)
def test_paths_by_template(
    asked: str, sent: str, prefix: str | None, gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    upstream.seen.clear()
    assert gateway.get(f"/paths{asked}").status == 200
    (seen,) = upstream.seen
    assert seen.line == f"GET {sent} HTTP/1.1".encode()
    assert seen.get("X-Forwarded-Prefix") == prefix
    explained = json.loads(gateway.get(f"/api/resilience/explain?path={quote('/paths' + asked, safe='')}").body)
    assert explained["forwarded"]["path"] == sent


def test_a_dot_segment_is_refused_before_it_is_rewritten(gateway: GatewayProcess) -> None:
    assert gateway.get("/paths/users/%2e%2e").status == 400

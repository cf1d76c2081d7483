"""Gateways behind nginx that stop and start: no request is lost."""

import time
from pathlib import Path

import pytest

from tests.conftest import StartGateway
from tests.deploy.nginx_site import Site, in_front
from tests.deploy.traffic import BODIES, Traffic
from tests.support.ports import is_listening
from tests.support.processes import ChildProcess
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually


@pytest.mark.parametrize("kind", ["site", "scale"])
def test_a_gateway_that_stops_takes_no_request_with_it(
    kind: str, start_gateway: StartGateway, stub: StubProcess, tmp_path: Path
) -> None:
    env = {"UPSTREAM_URL": stub.url, "RATE_LIMIT_ENABLED": "false"}
    gateways = [start_gateway(env) for _ in range(3)]
    servers = " ".join(f"server 127.0.0.1:{gateway.port} max_fails=0;" for gateway in gateways)
    with in_front(kind, servers, tmp_path) as port, Traffic(port, "/proxy/echo") as traffic:
        eventually(lambda: traffic.seen["GET", 200] > 5, "under load")
        assert gateways[0].stop() == 0, gateways[0].output
        # Long enough for nginx to try it again.
        time.sleep(3.0)
        eventually(lambda: all(traffic.seen[method, 200] > 50 for method in BODIES), "enough of each method")
    assert traffic.lost() == {}
    assert all(traffic.seen[method, 200] > 50 for method in BODIES), traffic.seen


def test_gateways_that_restart_right_after_each_other_lose_nothing(
    start_gateway: StartGateway, stub: StubProcess, tmp_path: Path
) -> None:
    """With max_fails nginx found "no live upstreams" while the second was away and the first had just come back."""
    env = {"UPSTREAM_URL": stub.url, "RATE_LIMIT_ENABLED": "false"}
    gateways = [start_gateway(env) for _ in range(2)]
    servers = " ".join(f"server 127.0.0.1:{gateway.port} max_fails=0;" for gateway in gateways)
    with in_front("site", servers, tmp_path) as port, Traffic(port, "/proxy/echo") as traffic:
        eventually(lambda: traffic.seen["GET", 200] > 5, "under load")
        for _ in range(4):
            oldest = gateways.pop(0)
            assert oldest.stop() == 0, oldest.output
            gateways.append(start_gateway({**env, "PORT": str(oldest.port)}))
        eventually(lambda: all(traffic.seen[method, 200] > 50 for method in BODIES), "enough of each method")
    assert traffic.lost() == {}
    assert all(traffic.seen[method, 200] > 50 for method in BODIES), traffic.seen


def test_an_idle_connection_to_a_gateway_that_stops_takes_no_request_with_it(
    start_gateway: StartGateway, stub: StubProcess, tmp_path: Path
) -> None:
    """nginx may not repeat a POST that it has sent on a connection that was about to be closed. So it gives up an idle
    connection before a gateway that stops does. Held still, it reads the request before the end of the gateway."""
    env = {"UPSTREAM_URL": stub.url, "RATE_LIMIT_ENABLED": "false"}
    first, second = start_gateway(env), start_gateway(env)
    site = Site(tmp_path)
    servers = f"server 127.0.0.1:{first.port} max_fails=0; server 127.0.0.1:{second.port} backup;"
    site.replace("server 127.0.0.1:5000 max_fails=0;", servers)
    with ChildProcess("nginx", site.command(), cwd=tmp_path) as nginx:
        nginx.wait_until(lambda: is_listening(site.http), "listening")
        with RawClient(site.http) as client:
            assert client.request(b"GET /proxy/ok HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
            time.sleep(2.0)
            nginx.pause()
            client.send(b"POST /proxy/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            assert first.stop() == 0, first.output
            nginx.resume()
            assert client.read_response("POST").status == 200
    eventually(lambda: len(second.log_records(target="/proxy/echo")) == 1, "answered by the other gateway")

"""The nginx files: valid where the runbook puts them, with each snippet, and doing what their comments promise."""

import contextlib
import http.client
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from tests.deploy.nginx_site import SITE, Site, in_front, nginx, scale
from tests.deploy.tools import run
from tests.support import plain_http
from tests.support.ports import free_port, is_listening
from tests.support.processes import ROOT, ChildProcess
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess


@pytest.mark.parametrize("snippets", [(), ("servers",), ("tls",), ("tls", "servers")], ids="+".join)
def test_valid(snippets: tuple[str, ...], tmp_path: Path) -> None:
    site = Site(tmp_path, snippets)
    if "tls" in snippets:
        site.certificate()
    good, output = site.check()
    assert good, output
    # Newer versions would have `http2 on;`, which older ones do not know.
    assert not [line for line in output.splitlines() if "[warn]" in line and "http2" not in line], output


def test_beside_debians_default_site_it_is_refused_and_not_silently_ignored(tmp_path: Path) -> None:
    site = Site(tmp_path)
    (tmp_path / "etc/nginx/sites-enabled/default").symlink_to("../sites-available/default")
    good, output = site.check()
    assert not good
    assert "a duplicate default server" in output


def test_the_runbook_has_the_commands_of_the_head_of_the_file() -> None:
    commands = [re.sub(r"\s+#.*", "", line.strip("# ")) for line in SITE.splitlines() if line.startswith("#   sudo")]
    text = re.sub(r"\s+#.*", "", (ROOT / "docs/operations.md").read_text(encoding="utf-8"))
    assert len(commands) == 4
    assert [command for command in commands if command not in text] == []


@pytest.mark.parametrize(
    ("text", "instead"),
    [
        ("proxy_buffering off;", "proxy_bufferin off;"),
        ("http://api_gateway;", "http://no_such_upstream_here;"),
        ("}\n", "\n"),
    ],
)
def test_refused_when_broken(text: str, instead: str, tmp_path: Path) -> None:
    site = Site(tmp_path)
    site.replace(text, instead)
    assert not site.check()[0]


def test_the_configuration_of_the_scaled_deployment_is_valid(tmp_path: Path) -> None:
    answer = run([nginx(), "-p", str(tmp_path), "-c", str(scale(tmp_path, free_port())), "-t"], tmp_path)
    assert answer.returncode == 0, answer.stdout
    assert "[warn]" not in answer.stdout


class Ending:
    """A gateway that takes each request and ends without an answer. `taken` counts them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.taken = 0
        self._thread = threading.Thread(target=self._take)
        self._thread.start()

    def _take(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                if connection.recv(65536):
                    self.taken += 1

    def close(self) -> None:
        """Its port refuses connections from now on."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture
def site(stub: StubProcess, tmp_path: Path) -> Iterator[Site]:
    """nginx with the site file in front of the stub, which shows what the gateway would be given."""
    site = Site(tmp_path)
    site.replace("127.0.0.1:5000", f"127.0.0.1:{stub.port}")
    with ChildProcess("nginx", site.command(), cwd=tmp_path) as child:
        child.wait_until(lambda: is_listening(site.http), "listening")
        yield site


def fields(site: Site, headers: dict[str, str]) -> list[tuple[str, str]]:
    answer = plain_http.request(site.http, "/echo/a%2Fb?x=1", headers=headers).json()
    assert answer["target"] == "/echo/a%2Fb?x=1"
    return [(name.lower(), value) for name, value in answer["headers"]]


def test_the_address_of_the_client_replaces_what_it_claims(site: Site) -> None:
    names = ("X-Real-IP", "Forwarded", "X-Forwarded-Port", "X-Forwarded-Prefix", "X-Original-URL", "X-Forwarded-User")
    claims = dict.fromkeys(("X-Forwarded-For", *names), "203.0.113.9")
    found = fields(site, {**claims, "Host": "api.example.com:8443"})
    assert [value for name, value in found if name == "x-forwarded-for"] == ["127.0.0.1"]
    assert not [name for name, value in found if "203.0.113.9" in value]
    assert ("x-forwarded-proto", "http") in found
    assert ("host", "api.example.com:8443") in found


def test_connections_to_the_gateway_are_kept(site: Site, stub: StubProcess) -> None:
    for _ in range(5):
        assert plain_http.request(site.http, "/ok").status == 200
    with socket.create_connection(("127.0.0.1", site.http)) as client:
        client.sendall(b"GET /stats HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"200 OK" in client.recv(65536)
    assert stub.stats()["connections"] <= 2, "one is kept by nginx, one asks"


def test_streams_arrive_as_they_are_sent(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.http, timeout=60)
    started = time.monotonic()
    connection.request("GET", "/sse?events=2&delay=20")
    response = connection.getresponse()
    first = response.readline()
    assert first.startswith(b"id: 0")
    assert time.monotonic() - started < 15.0
    connection.close()


def test_websocket(site: Site) -> None:
    with socket.create_connection(("127.0.0.1", site.http), timeout=5) as client:
        client.sendall(
            b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        head = client.recv(65536)
        assert head.startswith(b"HTTP/1.1 101 ")
        client.sendall(b"\x81\x82\0\0\0\0hi")
        assert client.recv(4) == b"\x81\x02hi"


def test_a_failing_answer_is_not_repeated(site: Site, stub: StubProcess) -> None:
    assert plain_http.request(site.http, "/status/503").status == 503
    assert stub.requests("/status/503") == 1


@pytest.fixture(params=["site", "scale", "shop"])
def two(request: pytest.FixtureRequest, stub: StubProcess, tmp_path: Path) -> Iterator[tuple[int, Ending]]:
    """The port of nginx in front of two gateways: one that takes requests and ends without an answer, then the stub."""
    with Ending() as ending:
        servers = f"server 127.0.0.1:{ending.port} max_fails=0; server 127.0.0.1:{stub.port} backup;"
        with in_front(request.param, servers, tmp_path) as port:
            yield port, ending


@pytest.mark.parametrize("body", [b"", b"a body"], ids=["empty", "body"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_what_is_idempotent_is_passed_on(method: str, body: bytes, two: tuple[int, Ending], stub: StubProcess) -> None:
    port, ending = two
    assert status(port, method, body) == 200
    assert ending.taken == 1
    assert stub.requests("/echo") == 1


@pytest.mark.parametrize("body", [b"", b"a body"], ids=["empty", "body"])
@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_is_not_and_a_gateway_may_have_taken_is_never_repeated(
    method: str, body: bytes, two: tuple[int, Ending], stub: StubProcess
) -> None:
    port, ending = two
    assert status(port, method, body) == 502
    assert ending.taken == 1
    assert stub.requests("/echo") == 0


@pytest.mark.parametrize("two", ["site", "scale"], indirect=True)
def test_a_body_of_which_a_gateway_has_a_part_is_not_passed_on(two: tuple[int, Ending], stub: StubProcess) -> None:
    port, ending = two
    assert status(port, "PUT", b"a part", length=100) == 502
    assert ending.taken == 1
    assert stub.requests("/echo") == 0


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
def test_what_no_gateway_has_taken_is_passed_on(method: str, two: tuple[int, Ending], stub: StubProcess) -> None:
    port, ending = two
    ending.close()
    answer = plain_http.request(port, "/echo", method=method, body=bytes(1 << 20))
    assert (answer.status, answer.json()["body_length"]) == (200, 1 << 20)
    assert stub.requests("/echo") == 1


def status(port: int, method: str, body: bytes, length: int | None = None) -> int:
    """The answer to a request whose head and body are sent at once; `length` is what it says of a longer body."""
    length = len(body) if length is None else length
    with RawClient(port) as client:
        client.send(f"{method} /echo HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode() + body)
        return client.read_response(method).status


@pytest.mark.parametrize("two", ["scale"], indirect=True)
def test_the_scaled_deployment_hides_what_is_for_operators(two: tuple[int, Ending]) -> None:
    port, ending = two
    for path in ("/metrics", "/status/breakers", "/chaos", "/api/admin/x", "/api/resilience/health", "/api/docs"):
        assert plain_http.request(port, path).status == 403, path
    assert ending.taken == 0
    assert plain_http.request(port, "/health").status == 200


def test_what_is_for_operators_is_open_to_this_host_only(site: Site) -> None:
    # The stub has no such path: its 404 shows that nginx let the request through.
    assert plain_http.request(site.http, "/metrics").status == 404
    site.directory.joinpath("closed").mkdir()
    text = site.site.read_text(encoding="utf-8")
    for address in ("127.0.0.1", "::1"):
        text = text.replace(f"allow {address};", "")
    closed = Site(site.directory / "closed")
    closed.site.write_text(text.replace(str(site.http), str(closed.http)), encoding="utf-8")
    with ChildProcess("nginx", closed.command(), cwd=closed.directory) as child:
        child.wait_until(lambda: is_listening(closed.http), "listening")
        for path in ("/metrics", "/status/breakers", "/chaos", "/api/admin/x", "/api/resilience/health", "/api/docs"):
            assert plain_http.request(closed.http, path).status == 403, path
        for path in ("/ok", "/health"):
            assert plain_http.request(closed.http, path).status == 200, path

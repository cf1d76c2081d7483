"""TLS on both sides, with certificates made for the occasion, and IPv6 on both sides."""

import socket
import ssl
from collections.abc import Callable, Iterator

import pytest
import yaml

from tests.conformance.wire.clients import plain
from tests.conformance.wire.conftest import PLAIN
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, framed, fresh
from tests.conftest import StartGateway
from tests.support.certificates import Certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.processes import ChildProcess
from tests.support.raw_http import RawClient

Start = Callable[..., GatewayProcess]


@pytest.fixture(scope="module")
def server_context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    return context


@pytest.fixture(scope="module")
def tls_upstream(server_context: ssl.SSLContext) -> Iterator[ProgrammedUpstream]:
    with ProgrammedUpstream(wrap=lambda sock: server_context.wrap_socket(sock, server_side=True)) as running:
        yield running


UPSTREAMS: dict[str, dict[str, object]] = {
    "known-authority": {"ca_file": "cert.pem"},
    "not-verified": {"verify": False},
    "unknown-authority": {},
    "other-name": {"ca_file": "cert.pem", "server_name": "other.example"},
}


@pytest.fixture
def gateway(shared_gateway: StartGateway, certificate: Certificate, tls_upstream: ProgrammedUpstream) -> GatewayProcess:
    """One that reaches the same upstream in several ways, each under the prefix of its name."""
    endpoint = f"https://localhost:{tls_upstream.port}"
    document = {
        "upstreams": {name: {"endpoints": [endpoint], "tls": tls} for name, tls in UPSTREAMS.items()},
        "routes": [
            {"name": name, "prefix": f"/{name}", "upstream": name, "strip_prefix": True, "rate_limit": None}
            for name in UPSTREAMS
        ],
    }
    files = {"gateway.yaml": yaml.safe_dump(document), "cert.pem": certificate.cert.read_text()}
    return shared_gateway({**PLAIN, "GATEWAY_CONFIG": "gateway.yaml"}, files=files)


def wait_for_port(gateway: GatewayProcess) -> None:
    gateway.wait_for_line("listening on")


def test_tls_on_the_listener(start_gateway: Start, certificate: Certificate) -> None:
    with ProgrammedUpstream() as upstream:
        tls = {"TLS_CERT_FILE": str(certificate.cert), "TLS_KEY_FILE": str(certificate.key)}
        gateway = start_gateway(plain(upstream.url, **tls), ready=False)
        wait_for_port(gateway)
        context = ssl.create_default_context(cafile=str(certificate.cert))
        context.set_alpn_protocols(["h2", "http/1.1"])
        path = fresh()
        upstream.on(cut := fresh(), framed(b"HTTP/1.1 200 OK\r\n\r\nhello", reset=True))
        with RawClient(gateway.port) as client:
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            assert client.socket.selected_alpn_protocol() == "http/1.1"
            body = b"x" * 300_000
            head = f"POST /proxy{path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
            assert client.request(head.encode() + body).status == 200
            seen = upstream.only(path)
            assert (seen.body, seen.get("X-Forwarded-Proto")) == (body, "https")
            assert client.request(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
        with RawClient(gateway.port) as client:
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            client.send(f"GET /proxy{cut} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert not client.read_response().complete
        with RawClient(gateway.port) as client:
            client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            assert client.request(b"GET / HTTP/1.1\r\n\r\n").status == 400
        with RawClient(gateway.port) as client:
            client.send(b"GET /proxy/x HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.fate() in {"closed", "reset"}


@pytest.mark.parametrize("name", UPSTREAMS)
def test_tls_to_the_upstream(name: str, gateway: GatewayProcess, tls_upstream: ProgrammedUpstream) -> None:
    path = fresh()
    status = 200 if name in {"known-authority", "not-verified"} else 502
    with RawClient(gateway.port) as client:
        response = client.request(f"GET /{name}{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert response.status == status
        if status == 502:
            assert "tls_certificate_error" in (response.get("Proxy-Status") or "")
            assert tls_upstream.requests(path) == []
        else:
            assert client.request(f"GET /{name}{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).status == 200
            assert len({seen.connection for seen in tls_upstream.requests(path)}) == 1


def test_truncation_by_a_tls_upstream_is_visible(gateway: GatewayProcess, tls_upstream: ProgrammedUpstream) -> None:
    """Without a close_notify the end of a close-delimited body may be anybody's (RFC 9112 section 9.8)."""

    def cut(peer: Peer, seen: Seen) -> None:
        peer.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        peer.reset()

    tls_upstream.on(path := fresh(), cut)
    with RawClient(gateway.port) as client:
        response = client.request(f"GET /not-verified{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert response.status == 502 or not response.complete


def test_a_plain_upstream_where_tls_is_expected(start_gateway: Start) -> None:
    with ProgrammedUpstream() as upstream:
        gateway = start_gateway(plain(f"https://127.0.0.1:{upstream.port}", UPSTREAM_CONNECT_TIMEOUT="0.5"))
        with RawClient(gateway.port) as client:
            assert client.request(b"GET /proxy/x HTTP/1.1\r\nHost: a\r\n\r\n").status in {502, 504}


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not _has_ipv6(), reason="no IPv6 loopback here")
@pytest.mark.parametrize("host", ["::1", ""])
def test_ipv6_on_both_sides(host: str, start_gateway: Start) -> None:
    with ProgrammedUpstream("::1") as upstream:
        gateway: ChildProcess = start_gateway(plain(f"http://[::1]:{upstream.port}", HOST=host), ready=False)
        assert isinstance(gateway, GatewayProcess)
        wait_for_port(gateway)
        path = fresh()
        with RawClient(gateway.port, "::1") as client:
            assert client.request(f"GET /proxy{path} HTTP/1.1\r\nHost: [::1]\r\n\r\n".encode()).status == 200
        seen = upstream.only(path)
        assert (seen.get("Host"), seen.get("X-Forwarded-For")) == (f"[::1]:{upstream.port}", "::1")
        if not host:
            with RawClient(gateway.port) as client:
                assert client.request(f"GET /proxy{path} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).status == 200
            assert upstream.requests(path)[1].get("X-Forwarded-For") == "127.0.0.1"

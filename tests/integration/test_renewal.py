"""A certificate is renewed while the gateway runs, and the signals that mean "read again" elsewhere end nothing."""

import shutil
import signal
import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.wire.server.certificate import not_after
from tests.conformance.wire.clients import plain
from tests.support.certificates import Certificate, make_certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.waiting import eventually

Start = Callable[..., GatewayProcess]


def served(gateway: GatewayProcess) -> str:
    """The certificate that a new handshake gets, PEM."""
    return ssl.get_server_certificate(("127.0.0.1", gateway.port), timeout=10.0)


def text_of(certificate: Certificate) -> str:
    return certificate.cert.read_text()


def ask(gateway: GatewayProcess, target: str) -> bytes:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with RawClient(gateway.port) as client:
        client.socket = context.wrap_socket(client.socket)
        return client.request(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode()).body


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    return make_certificate(tmp_path / "tls")


@pytest.fixture
def gateway(start_gateway: Start, stub: StubProcess, certificate: Certificate) -> GatewayProcess:
    gateway = start_gateway(plain(stub.url, **certificate.variables), ready=False)
    gateway.wait_for_line("listening on")
    return gateway


def test_a_renewed_certificate_is_noticed(gateway: GatewayProcess, certificate: Certificate) -> None:
    old = text_of(certificate)
    assert served(gateway) == old
    context = ssl.create_default_context(cafile=str(certificate.cert))
    with RawClient(gateway.port) as kept:
        kept.socket = context.wrap_socket(kept.socket, server_hostname="localhost")
        make_certificate(certificate.cert.parent, days=5)
        eventually(lambda: served(gateway) == text_of(certificate), "the new one served")
        assert kept.request(b"GET /proxy/ok HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    assert text_of(certificate) != old
    expiry = not_after(str(certificate.cert))
    assert expiry is not None
    assert expiry - time.time() == pytest.approx(5 * 86_400, abs=3600)
    (line,) = [
        line
        for line in ask(gateway, "/metrics").decode().splitlines()
        if line.startswith("gateway_tls_certificate_expiry_timestamp_seconds ")
    ]
    assert float(line.split()[1]) == expiry


def test_a_swap_of_links_is_noticed(start_gateway: Start, stub: StubProcess, tmp_path: Path) -> None:
    """As Kubernetes updates a mounted secret: ..data is a link to a directory, and replaced by another."""
    first, second = make_certificate(tmp_path / "1"), make_certificate(tmp_path / "2")
    (tmp_path / "..data").symlink_to("1")
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    mounted = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")
    gateway = start_gateway(plain(stub.url, **mounted.variables), ready=False)
    gateway.wait_for_line("listening on")
    assert served(gateway) == text_of(first)
    (tmp_path / "..new").symlink_to("2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    eventually(lambda: served(gateway) == text_of(second), "the new one served")


@pytest.mark.parametrize("broken", ["half of the certificate", "another key"])
def test_a_pair_that_does_not_fit_is_not_taken(
    broken: str, gateway: GatewayProcess, certificate: Certificate, tmp_path: Path
) -> None:
    old = text_of(certificate)
    other = make_certificate(tmp_path / "other")
    if broken == "another key":
        shutil.copy(other.key, certificate.key)
    else:
        certificate.cert.write_text(text_of(other)[:200])
    says = "the files of the certificate cannot be used"
    gateway.wait_for_line(says)
    assert served(gateway) == old
    health = ask(gateway, "/health").decode()
    assert says in health
    assert '"status":"degraded"' in health
    time.sleep(2.5)
    assert gateway.output.count(says) == 1, "once, and not at every look"
    for name in ("cert.pem", "key.pem"):
        shutil.copy(other.cert.parent / name, certificate.cert.parent / name)
    eventually(lambda: served(gateway) == text_of(other), "the new one served")
    assert says not in ask(gateway, "/health").decode()
    assert "gateway_tls_certificate_reload_failed 0" in ask(gateway, "/metrics").decode()


def test_sighup_reads_the_certificate_again(gateway: GatewayProcess, certificate: Certificate) -> None:
    make_certificate(certificate.cert.parent)
    gateway.send_signal(signal.SIGHUP)
    eventually(lambda: served(gateway) == text_of(certificate), "the new one served")


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM"])
def test_no_such_signal_ends_the_process(name: str, start_gateway: Start, stub: StubProcess) -> None:
    """pgjones/hypercorn#233: requests in flight were cut off."""
    gateway = start_gateway(plain(stub.url, DRAIN_TIMEOUT_SECONDS="30"))
    with RawClient(gateway.port) as client:
        client.send(b"GET /proxy/slow?seconds=3 HTTP/1.1\r\nHost: a\r\n\r\n")
        gateway.wait_for_metric("http_requests_in_flight", 1)
        gateway.send_signal(signal.Signals[name])
        gateway.send_signal(signal.SIGPIPE)
        if name != "SIGALRM":
            gateway.wait_for_line(f"{name} received")
        assert client.read_response().status == 200
    assert gateway.get("/proxy/ok").status == 200
    assert gateway.returncode is None


def test_the_authority_of_an_upstream_is_read_again(
    start_gateway: Start, gateway: GatewayProcess, certificate: Certificate, tmp_path: Path
) -> None:
    """The upstream of this gateway is another one, whose certificate is renewed."""
    authority = tmp_path / "authority.pem"
    shutil.copy(certificate.cert, authority)
    front = start_gateway(plain(f"https://localhost:{gateway.port}", UPSTREAM_CA_FILE=str(authority), VIA_NAME="front"))
    assert front.get("/proxy/proxy/ok").status == 200
    old = text_of(certificate)
    make_certificate(certificate.cert.parent, days=5)
    eventually(lambda: served(gateway) != old, "the new one served")
    shutil.copy(certificate.cert, authority)
    front.send_signal(signal.SIGHUP)
    front.wait_for_line("SIGHUP received")
    gateway.send_signal(signal.SIGHUP)
    eventually(lambda: front.get("/proxy/proxy/ok?again").status == 200, "the new one trusted")


def test_a_hang_up_while_the_gateway_starts_does_not_end_it(start_gateway: Start, stub: StubProcess) -> None:
    starting = start_gateway(plain(stub.url), ready=False, fork=False)
    status = Path(f"/proc/{starting.pid}/status")

    def ignored() -> bool:
        line = next(line for line in status.read_text().splitlines() if line.startswith("SigIgn:"))
        return bool(int(line.split()[1], 16) & 1 << (signal.SIGHUP - 1))

    eventually(ignored, "SIGHUP ignored")
    starting.send_signal(signal.SIGHUP)
    starting.wait_until_ready()

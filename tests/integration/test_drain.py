"""SIGTERM under load: what was accepted is answered, clients are told to go, and the process ends in order."""

import http.client
import json
import signal
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance.wire.clients import plain
from tests.support.certificates import make_certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.load import Load
from tests.support.ports import is_listening
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, eventually

Start = Callable[..., GatewayProcess]
DRAINING = {"DRAIN_TIMEOUT_SECONDS": "40", "UPSTREAM_TIMEOUT": "30", "UPSTREAM_TOTAL_TIMEOUT": "40"}
IN_FLIGHT = "http_requests_in_flight"


def test_a_stop_under_load_loses_nothing(start_gateway: Start, stub: StubProcess) -> None:
    gateway = start_gateway(plain(stub.url, **DRAINING))
    load = Load(gateway.port)
    threads = [threading.Thread(target=load.run) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: load.answered > 100, "under load")
    gateway.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join(PATIENCE)
    load.stopped = True
    assert gateway.wait() == 0
    assert load.lost == []
    assert load.told_to_go >= 8
    records = gateway.log_records(target="/proxy/ok")
    assert len(records) >= load.answered


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_what_the_kernel_had_accepted_is_answered(
    tls: bool, start_gateway: Start, stub: StubProcess, tmp_path: Path
) -> None:
    """benoitc/gunicorn#1725: connections in the accept queue were reset when the listener closed."""
    certificate = make_certificate(tmp_path / "tls")
    gateway = start_gateway(plain(stub.url, **DRAINING, **(certificate.variables if tls else {})), ready=False)
    gateway.wait_for_line("listening on")
    context = ssl.create_default_context(cafile=str(certificate.cert))

    def ask(client: RawClient) -> tuple[int, str | None]:
        with client:
            if tls:
                client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
            client.send(b"POST /proxy/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            response = client.read_response()
            return response.status, response.get("Connection")

    # Held still, as by a long pause of the machine: it finds the signal and the clients at the same moment.
    gateway.pause()
    with ThreadPoolExecutor(40) as threads:
        try:
            gateway.send_signal(signal.SIGTERM)
            clients = [RawClient(gateway.port) for _ in range(40)]
            answers = [threads.submit(ask, client) for client in clients]
            time.sleep(0.3)  # so that most have sent their first bytes
        finally:
            gateway.resume()
        # A worker that finds the clients before it is told to end answers as ever; all others close.
        results = [answer.result() for answer in answers]
        assert [status for status, _ in results] == [200] * 40
        assert {connection for _, connection in results} <= {None, "close"}
    assert gateway.wait() == 0


def test_a_client_whose_handshake_is_under_way_is_answered(start_gateway: Start, stub: StubProcess) -> None:
    """It takes itself for connected, and the gateway's kernel does not yet: the last packet is still on its way."""
    gateway = start_gateway(plain(stub.url, **DRAINING), ready=False)
    gateway.wait_for_line("listening on")
    gateway.pause()
    try:
        gateway.send_signal(signal.SIGTERM)
        clients = [RawClient(gateway.port, late_ack=True) for _ in range(10)]
    finally:
        gateway.resume()
    gateway.wait_for_line("draining: 0 exchanges")
    for client in clients:
        with client:
            client.send(b"POST /proxy/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
            assert client.read_response().status == 200
    assert gateway.wait() == 0


def test_readyz_says_no_while_the_listener_is_still_open(start_gateway: Start, stub: StubProcess) -> None:
    gateway = start_gateway(plain(stub.url, **DRAINING, DRAIN_DELAY_SECONDS="4"))
    assert gateway.get("/readyz").status == 200
    gateway.send_signal(signal.SIGTERM)
    eventually(lambda: gateway.get("/readyz").status == 503, "told to go")
    assert gateway.get("/livez").status == 200
    answer = gateway.get("/proxy/ok")
    assert (answer.status, answer.headers["Connection"]) == (200, "close")
    assert gateway.wait() == 0


def test_what_is_in_flight_finishes(start_gateway: Start, stub: StubProcess) -> None:
    gateway = start_gateway(plain(stub.url, **DRAINING))
    with RawClient(gateway.port) as slow, RawClient(gateway.port) as body, RawClient(gateway.port) as idle:
        slow.send(b"GET /proxy/slow?seconds=4 HTTP/1.1\r\nHost: a\r\n\r\n")
        body.send(b"POST /proxy/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n01234")
        assert idle.request(b"GET /proxy/ok HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
        gateway.wait_for_metric(IN_FLIGHT, 2)
        gateway.send_signal(signal.SIGTERM)
        eventually(lambda: not is_listening(gateway.port), "closed to newcomers")
        body.send(b"56789")
        assert body.read_response().status == 200
        response = slow.read_response()
        assert (response.status, response.get("Connection")) == (200, "close")
        assert idle.fate() == "closed"
    assert gateway.wait() == 0


def test_the_time_for_it_is_bounded(start_gateway: Start, stub: StubProcess) -> None:
    gateway = start_gateway(plain(stub.url, **{**DRAINING, "DRAIN_TIMEOUT_SECONDS": "0.5"}))
    with RawClient(gateway.port) as client:
        client.send(b"GET /proxy/slow?seconds=25 HTTP/1.1\r\nHost: a\r\n\r\n")
        gateway.wait_for_metric(IN_FLIGHT, 1)
        started = time.monotonic()
        gateway.send_signal(signal.SIGTERM)
        assert gateway.wait() == 0
        assert time.monotonic() - started < 15.0
        response = client.read_response()
        assert (response.status, response.get("Retry-After"), response.get("Connection")) == (503, "1", "close")
        assert json.loads(response.body)["reason"] == "draining"
    assert "client_closed" not in gateway.output
    # One of each, and said so.
    assert " with 1 worker: 1 route, 1 upstream, 1 rate limit; " in gateway.output
    assert "draining: 1 exchange and 0 tunnels open" in gateway.output
    assert "gave up on 1 exchange that did not finish in time" in gateway.output


@pytest.mark.parametrize(("first", "second"), [("SIGTERM", "SIGINT"), ("SIGQUIT", "SIGTERM")])
def test_a_second_signal_hurries(first: str, second: str, start_gateway: Start, stub: StubProcess) -> None:
    gateway = start_gateway(plain(stub.url, **DRAINING))
    with RawClient(gateway.port) as client:
        client.send(b"GET /proxy/slow?seconds=25 HTTP/1.1\r\nHost: a\r\n\r\n")
        gateway.wait_for_metric(IN_FLIGHT, 1)
        gateway.send_signal(signal.Signals[first])
        gateway.wait_for_line("draining: 1 exchange")
        assert gateway.returncode is None
        gateway.send_signal(signal.Signals[second])
        assert gateway.wait(15.0) == 0


def test_an_idle_gateway_stops_at_once(start_gateway: Start, stub: StubProcess) -> None:
    gateway = start_gateway(plain(stub.url, **DRAINING))
    started = time.monotonic()
    assert gateway.stop() == 0
    assert time.monotonic() - started < 15.0
    with pytest.raises((OSError, http.client.HTTPException)):
        gateway.get("/livez")


def test_the_port_can_be_taken_again_at_once(start_gateway: Start, stub: StubProcess) -> None:
    first = start_gateway(plain(stub.url, **DRAINING))
    with RawClient(first.port) as client:
        assert client.request(b"GET /proxy/ok HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
        first.send_signal(signal.SIGTERM)
        assert first.wait() == 0
    second = start_gateway(plain(stub.url, **DRAINING, PORT=str(first.port)))
    assert second.get("/proxy/ok").status == 200

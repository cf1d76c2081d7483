import asyncio
import errno
import logging
import random
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from gateway.config.sections.upstreams.model import HealthCheckConfig
from gateway.proxy.upstreams.health_check import EndpointCheck, HealthChecker, Verdict
from gateway.wire.client.resolver import Resolver

CONFIG = HealthCheckConfig("/health", interval=0.02, timeout=5.0, healthy_threshold=2, unhealthy_threshold=3)


def has_ipv6_loopback() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Endpoint:
    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.host = host
        self.port = port
        self.changes: list[bool] = []
        self.checked = True

    def set_healthy(self, healthy: bool) -> None:
        self.changes.append(healthy)


class Upstream:
    """A real server whose answer to a health check can be changed."""

    def __init__(self) -> None:
        self.status = 200
        self.delay = 0.0
        self.requests: list[tuple[str, str]] = []
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.requests.append((request.raw_path, request.host))
        await asyncio.sleep(self.delay)
        return web.Response(status=self.status, headers={"Location": "/elsewhere"})


@asynccontextmanager
async def serving(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> AsyncIterator[Upstream]:
    upstream = Upstream()
    app = web.Application()
    app.router.add_get("/{rest:.*}", upstream.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, 0, ssl_context=tls)
    await site.start()
    upstream.port = runner.addresses[0][1]
    try:
        yield upstream
    finally:
        await runner.cleanup()


@asynccontextmanager
async def checking(*checks: EndpointCheck) -> AsyncIterator[HealthChecker]:
    checker = HealthChecker(checks, random.Random(1))
    checker.start()
    try:
        yield checker
    finally:
        await checker.stop()


async def until(condition: Callable[[], bool], timeout: float = 30.0) -> None:
    async with asyncio.timeout(timeout):
        while not condition():
            await asyncio.sleep(0.005)


def test_a_verdict_changes_after_as_many_results_in_a_row() -> None:
    verdict = Verdict(CONFIG)
    history = [True, False, False, True, False, False, False, False, True, False, True, True, True]
    changed = [index for index, passed in enumerate(history) if verdict.record(passed)]
    assert changed == [6, 11]
    assert verdict.healthy


async def test_an_endpoint_goes_down_and_comes_back_once_each(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.health_check")
    async with serving() as upstream:
        endpoint = Endpoint(upstream.port)
        async with checking(EndpointCheck("orders", CONFIG, endpoint, authority="orders.example")):
            await until(lambda: len(upstream.requests) > 5)
            assert endpoint.changes == [], "healthy from the start: nothing to say"
            assert set(upstream.requests) == {("/health", "orders.example")}
            upstream.status = 503
            await until(lambda: endpoint.changes == [False])
            seen = len(upstream.requests)
            await until(lambda: len(upstream.requests) > seen + 5)
            upstream.status = 204
            await until(lambda: endpoint.changes == [False, True])
    where = f"endpoint 127.0.0.1:{upstream.port} of upstream orders is "
    assert [record.getMessage() for record in caplog.records] == [
        where + "unhealthy: status 503",
        where + "healthy again",
    ]


async def test_a_redirect_is_healthy_and_not_followed() -> None:
    async with serving() as upstream:
        upstream.status = 302
        endpoint = Endpoint(upstream.port)
        async with checking(EndpointCheck("a", CONFIG, endpoint)):
            await until(lambda: len(upstream.requests) > 5)
        assert endpoint.changes == []
        assert set(upstream.requests) == {("/health", f"127.0.0.1:{upstream.port}")}


async def test_the_path_travels_byte_for_byte() -> None:
    async with serving() as upstream:
        config = HealthCheckConfig("/he%61lth/..%2f?a=b+c&d=%7E", interval=0.02)
        async with checking(EndpointCheck("a", config, Endpoint(upstream.port))):
            await until(lambda: bool(upstream.requests))
        assert upstream.requests[0][0] == config.path


async def test_no_answer_in_time_is_unhealthy(caplog: pytest.LogCaptureFixture) -> None:
    async with serving() as upstream:
        upstream.delay = 30.0
        endpoint = Endpoint(upstream.port)
        config = HealthCheckConfig("/health", interval=0.02, timeout=0.03, unhealthy_threshold=2)
        async with checking(EndpointCheck("a", config, endpoint)):
            await until(lambda: endpoint.changes == [False])
    assert "no answer within 0.03 s" in caplog.text


async def test_refused_and_garbage_are_unhealthy(caplog: pytest.LogCaptureFixture) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH\r\n")
        await writer.drain()
        writer.close()

    with socket.socket() as bound:  # bound but not listening: refuses for as long as it is held
        bound.bind(("127.0.0.1", 0))
        garbage = await asyncio.start_server(babble, "127.0.0.1", 0)
        refused, nonsense = Endpoint(bound.getsockname()[1]), Endpoint(garbage.sockets[0].getsockname()[1])
        async with garbage, checking(EndpointCheck("a", CONFIG, refused), EndpointCheck("a", CONFIG, nonsense)):
            await until(lambda: refused.changes == [False] and nonsense.changes == [False])


async def test_endpoints_are_judged_apart() -> None:
    async with serving() as good, serving() as bad:
        bad.status = 500
        well, ill = Endpoint(good.port), Endpoint(bad.port)
        async with checking(EndpointCheck("a", CONFIG, well), EndpointCheck("a", CONFIG, ill)):
            await until(lambda: ill.changes == [False])
        assert well.changes == []
        assert good.requests


@pytest.mark.skipif(not has_ipv6_loopback(), reason="no ::1 on this machine")
async def test_ipv6() -> None:
    async with serving("::1") as upstream:
        endpoint = Endpoint(upstream.port, "::1")
        async with checking(EndpointCheck("a", CONFIG, endpoint)):
            await until(lambda: len(upstream.requests) > 3)
        assert endpoint.changes == []
        assert upstream.requests[0] == ("/health", f"[::1]:{upstream.port}")


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for orders.example, signed by itself, and its key."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        " -subj /CN=orders.example -addext subjectAltName=DNS:orders.example"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key


async def test_certificates_are_verified_as_for_requests(
    certificate: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    trusting = ssl.create_default_context(cafile=certificate[0])
    indifferent = ssl.create_default_context()
    indifferent.check_hostname = False
    indifferent.verify_mode = ssl.CERT_NONE
    async with serving(tls=server) as upstream:
        named, unnamed, stranger, unverified = (Endpoint(upstream.port) for _ in range(4))
        config = HealthCheckConfig("/health", interval=0.05, timeout=2.0, unhealthy_threshold=2)
        async with checking(
            EndpointCheck("named", config, named, tls=trusting, server_name="orders.example"),
            EndpointCheck("unnamed", config, unnamed, tls=trusting),
            EndpointCheck("stranger", config, stranger, tls=ssl.create_default_context(), server_name="orders.example"),
            EndpointCheck("unverified", config, unverified, tls=indifferent),
        ):
            await until(lambda: unnamed.changes == [False] and stranger.changes == [False])
            await until(lambda: len(upstream.requests) >= 4)
        assert named.changes == []
        assert unverified.changes == []
    assert caplog.text.count("is unhealthy") == 2


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EADDRNOTAVAIL, errno.ENOBUFS])
async def test_what_this_host_lacks_is_no_result(number: int, caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    async def lacking(host: str, port: int, *, type: int) -> list[tuple[Any, ...]]:  # noqa: A002 - as getaddrinfo has it
        nonlocal asked
        asked += 1
        raise OSError(number, "lacking")

    endpoint = Endpoint(80, host="orders")
    checker = HealthChecker([EndpointCheck("a", CONFIG, endpoint)], resolver=Resolver(0.0, getaddrinfo=lacking))
    checker.start()
    await until(lambda: asked > 6)
    await checker.stop()
    assert endpoint.changes == []
    assert caplog.text.count("cannot be checked from here") == 1


async def test_a_defect_ends_no_checks_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    asked = 0

    async def broken(host: str, port: int, *, type: int) -> list[tuple[Any, ...]]:  # noqa: A002 - as getaddrinfo has it
        nonlocal asked
        asked += 1
        if asked <= 3:
            raise RuntimeError("a defect")
        return [(socket.AF_INET, type, 6, "", ("127.0.0.1", upstream.port))]

    async with serving() as upstream:
        endpoint = Endpoint(upstream.port, host="orders")
        checker = HealthChecker([EndpointCheck("a", CONFIG, endpoint)], resolver=Resolver(0.0, getaddrinfo=broken))
        checker.start()
        await until(lambda: len(upstream.requests) > 2)
        await checker.stop()
    assert endpoint.changes == []
    (record,) = caplog.records
    assert record.getMessage() == f"the check of endpoint orders:{upstream.port} of upstream a failed"
    assert record.exc_info is not None


async def test_stop_ends_checks_in_flight_and_may_be_called_twice() -> None:
    async with serving() as upstream:
        upstream.delay = 30.0
        checker = HealthChecker([EndpointCheck("a", HealthCheckConfig("/", interval=0.02), Endpoint(upstream.port))])
        checker.start()
        await until(lambda: bool(upstream.requests))
        async with asyncio.timeout(10.0):
            await checker.stop()
            await checker.stop()
        seen = len(upstream.requests)
        await asyncio.sleep(0.1)
        assert len(upstream.requests) == seen


async def test_nothing_to_check_opens_nothing() -> None:
    before = asyncio.all_tasks()
    checker = HealthChecker([])
    checker.start()
    assert asyncio.all_tasks() == before
    await checker.stop()

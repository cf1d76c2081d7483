"""A process that stands still while it connects, shakes hands or checks an endpoint: what came meanwhile was in time.

The loop itself is held up here. Its peers run in threads, and go on.
"""

import asyncio
import socket
import ssl
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TypeVar, cast

import pytest
import uvloop

from gateway.alarm import Within
from gateway.config.sections.upstreams.model import HealthCheckConfig
from gateway.proxy.upstreams.health_check import EndpointCheck, HealthChecker
from gateway.wire.client.connect import SocketAddress, connect
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.client.pool import ConnectFailure, EndpointPool
from gateway.wire.client.resolver import Resolver
from gateway.wire.server.accept import FewHandshakes, Listener
from tests.support.certificates import Certificate, make_certificate, require_openssl
from tests.support.waiting import PATIENCE

LIMIT = 0.3
STALL = 3 * LIMIT

T = TypeVar("T")


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    require_openssl()
    return make_certificate(tmp_path_factory.mktemp("certificate"))


def run(work: Callable[[], Awaitable[T]]) -> T:
    """In a loop like the gateway's own."""

    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE):
            result = await work()
        # What was closed ends in a later turn.
        await asyncio.sleep(0.05)
        return result

    loop = uvloop.new_event_loop()
    try:
        return loop.run_until_complete(bounded())
    finally:
        loop.close()


class Server:
    """A TLS server, or a plain one, in a thread. It does nothing with a connection before `may_go_on` is set."""

    def __init__(self, certificate: Certificate | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self._context: ssl.SSLContext | None = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate.cert, certificate.key)
        self._listening = socket.create_server((host, port))
        self.address: tuple[str, int] = self._listening.getsockname()
        self.accepted, self.may_go_on = threading.Event(), threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self.may_go_on.set()
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listening.accept()
                threading.Thread(target=self._one, args=(sock,), daemon=True).start()

    def _one(self, sock: socket.socket) -> None:
        with suppress(OSError), sock:
            self.accepted.set()
            self.may_go_on.wait(PATIENCE)
            context = self._context
            with sock if context is None else context.wrap_socket(sock, server_side=True) as ready:
                while ready.recv(65_536):
                    ready.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")


@contextmanager
def serving(certificate: Certificate | None = None, host: str = "127.0.0.1", port: int = 0) -> Iterator[Server]:
    server = Server(certificate, host, port)
    try:
        yield server
    finally:
        server.close()


async def stall_once(server: Server) -> None:
    """Hold the loop up as soon as the server has a connection, which goes on meanwhile."""
    while not server.accepted.is_set():
        await asyncio.sleep(0.001)
    # What has been written by now is on its way.
    await asyncio.sleep(0.05)
    server.may_go_on.set()
    time.sleep(STALL)  # noqa: ASYNC251 - the stall is what is tested


def lenient() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_a_time_limit_is_put_off_by_a_stall_and_passes_without_one() -> None:
    async def work() -> None:
        with pytest.raises(TimeoutError):
            async with Within(0.02):
                await asyncio.sleep(PATIENCE)
        arrived = asyncio.Event()
        async with Within(LIMIT):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                ours.setblocking(False)
                asyncio.get_running_loop().add_reader(ours, arrived.set)
                theirs.send(b"x")
                time.sleep(STALL)  # noqa: ASYNC251 - the stall is what is tested
                await arrived.wait()
                asyncio.get_running_loop().remove_reader(ours)

    run(work)


async def connected(server: Server, *, stalled: bool) -> UpstreamConnection | ConnectFailure:
    """What a pool has for whoever asks it for a connection to the server."""
    host, port = server.address
    loop = asyncio.get_running_loop()
    pool = EndpointPool(loop, Resolver(), host, port, tls=lenient(), connect_timeout=LIMIT)
    found: asyncio.Future[UpstreamConnection | ConnectFailure] = loop.create_future()
    pool.request(found.set_result)
    if stalled:
        await stall_once(server)
    result = await found
    pool.close()
    if isinstance(result, UpstreamConnection):
        result.abort()
    return result


def test_a_handshake_with_an_upstream_that_was_in_time(certificate: Certificate) -> None:
    with serving(certificate) as server:
        assert isinstance(run(lambda: connected(server, stalled=True)), UpstreamConnection)


def test_an_upstream_that_does_not_shake_hands_is_late_all_the_same(certificate: Certificate) -> None:
    with serving(certificate) as server:
        assert run(lambda: connected(server, stalled=False)) is ConnectFailure.TIMEOUT


def test_an_address_that_was_not_overtaken(certificate: Certificate) -> None:
    with serving(certificate) as first, serving(certificate, "127.0.0.2", first.address[1]) as second:
        second.may_go_on.set()
        noted: list[tuple[SocketAddress, bool]] = []

        class Caller(asyncio.Protocol):
            def __init__(self, address: SocketAddress) -> None:
                self.address = address
                self.transport: asyncio.BaseTransport | None = None

            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                self.transport = transport

        async def work() -> str:
            # The handshake of the first one is under way when the loop stands still, and over when it goes on.
            making = asyncio.ensure_future(
                connect(
                    [first.address, second.address],
                    Caller,
                    delay=LIMIT,
                    tls=lenient(),
                    server_name="localhost",
                    note=lambda address, good: noted.append((address, good)),
                )
            )
            await stall_once(first)
            made = await making
            cast(asyncio.WriteTransport, made.transport).abort()
            return made.address[0]

        assert run(work) == "127.0.0.1"
        assert noted == [(first.address, True)]


def test_a_health_check_that_was_answered_in_time() -> None:
    with serving() as server:

        class Endpoint:
            host, port = server.address
            checked = True
            changes: list[bool] = []  # noqa: RUF012 - there is one of it

            def set_healthy(self, healthy: bool) -> None:
                self.changes.append(healthy)

        async def work() -> list[bool]:
            config = HealthCheckConfig(
                "/health", interval=0.01, timeout=LIMIT, healthy_threshold=1, unhealthy_threshold=1
            )
            checker = HealthChecker([EndpointCheck("orders", config, Endpoint())])
            checker.start()
            await stall_once(server)
            await asyncio.sleep(0.1)
            await checker.stop()
            return Endpoint.changes

        assert run(work) == []


def test_a_handshake_of_a_client_that_was_in_time(certificate: Certificate) -> None:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate.cert, certificate.key)

    class Greeting(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            cast(asyncio.WriteTransport, transport).write(b"hello")

    async def work() -> bytes:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        port = sock.getsockname()[1]
        listener = Listener(asyncio.get_running_loop(), sock, Greeting, FewHandshakes(), lambda: served, LIMIT)
        await listener.start()
        got: list[bytes] = []
        connected, stalled = threading.Event(), threading.Event()

        def client() -> None:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
                connected.set()
                stalled.wait(PATIENCE)
                with suppress(OSError), lenient().wrap_socket(plain) as shaken:
                    got.append(shaken.recv(5))

        thread = threading.Thread(target=client)
        thread.start()
        while not connected.is_set():
            await asyncio.sleep(0.001)
        # The gateway has accepted by now, and its time limit runs.
        await asyncio.sleep(0.05)
        stalled.set()
        time.sleep(STALL)  # noqa: ASYNC251 - the stall is what is tested
        await asyncio.to_thread(thread.join)
        listener.close(take_what_waits=False)
        return b"".join(got)

    assert run(work) == b"hello"


def test_a_client_that_does_not_shake_hands_is_closed(certificate: Certificate) -> None:
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate.cert, certificate.key)

    async def work() -> bytes:
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        port = sock.getsockname()[1]
        listener = Listener(asyncio.get_running_loop(), sock, asyncio.Protocol, FewHandshakes(), lambda: served, LIMIT)
        await listener.start()

        def client() -> bytes:
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as plain:
                return plain.recv(1)

        got = await asyncio.to_thread(client)
        listener.close(take_what_waits=False)
        return got

    assert run(work) == b""

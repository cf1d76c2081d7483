"""What the gateway ends a tunnel for, besides silence: sides that take nothing or answer nothing. And whom it refuses
one. With WebSocket peers that others have written, and with raw ones that misbehave."""

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh
from tests.integration.test_tunnel_ends import small_buffer
from tests.integration.test_tunnels import SWITCH, UPGRADE
from tests.support.certificates import Certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, eventually

CLOSE_1013 = b"\x88\x02\x03\xf5"
FRAME = b"\x82\x7e" + (8000).to_bytes(2) + b"m" * 8000
PING = b"\x89\x08"

StartGateway = Callable[..., GatewayProcess]


def unmasked_close(frame: bytes) -> int:
    """The status code of a masked Close."""
    assert frame[:2] == b"\x88\x82", frame
    return int.from_bytes(bytes(byte ^ frame[2 + index] for index, byte in enumerate(frame[6:8])))


def upgraded(client: RawClient, path: str) -> None:
    response = client.request(UPGRADE.format(path).encode())
    assert response.status == 101, response


def fill(sock: socket.socket, frame: bytes) -> None:
    """Send frames until nothing more is taken."""
    sock.settimeout(0.3)
    with contextlib.suppress(TimeoutError):
        while True:
            sock.sendall(frame)
    sock.settimeout(PATIENCE)


def test_a_client_that_takes_nothing(start_gateway: StartGateway, upstream: ProgrammedUpstream) -> None:
    got: list[bytes] = []

    def flood(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH)
        fill(peer.socket, FRAME)
        got.append(peer.exactly(8))

    upstream.on(path := fresh(), flood)
    gateway = start_gateway(plain(upstream.url, WEBSOCKET_TIMEOUT_MS="1500", WEBSOCKET_PING_INTERVAL_SECONDS="0"))
    with small_buffer(gateway) as client:
        client.send(UPGRADE.format(path).encode())
        gateway.wait_for_metric('websocket_backpressure_drops_total{route="proxy",side="client"}', 1)
        gateway.wait_for_metric('websocket_connections_active{route="proxy"}', 0)
    eventually(lambda: bool(got), "the Close to the upstream")
    assert unmasked_close(got[0]) == 1001
    (record,) = gateway.wait_for_records(status=101)
    assert record["decisions"]["tunnel"] == "backpressure_client"
    gateway.wait_for_line("backpressure: a side took nothing of what waited for it for 1.5 s (the client of 1, ")


def test_over_tls_too(start_gateway: StartGateway, certificate: Certificate, upstream: ProgrammedUpstream) -> None:
    """There the kernel's queue has more bytes than were written, and the records make their own buffer."""
    got: list[bytes] = []

    def flood(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH)
        fill(peer.socket, FRAME)
        got.append(peer.exactly(8))

    upstream.on(path := fresh(), flood)
    variables = plain(upstream.url, WEBSOCKET_STALL_TIMEOUT_SECONDS="1.5", **certificate.variables)
    gateway = start_gateway(variables, ready=False)
    gateway.wait_for_line("listening on")
    context = ssl.create_default_context(cafile=str(certificate.cert))
    with small_buffer(gateway) as client:
        client.socket = context.wrap_socket(client.socket, server_hostname="localhost")
        client.socket.sendall(UPGRADE.format(path).encode())
        (record,) = gateway.wait_for_records(status=101)
    assert record["decisions"]["tunnel"] == "backpressure_client"
    eventually(lambda: bool(got), "the Close to the upstream")
    assert unmasked_close(got[0]) == 1001


def test_a_client_that_reads_at_last_is_told_why(shared_gateway: StartGateway, upstream: ProgrammedUpstream) -> None:
    """What waited for it comes first, up to the end of a frame, then the Close."""

    told = threading.Event()

    def flood(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH)
        fill(peer.socket, FRAME)
        assert unmasked_close(peer.exactly(8)) == 1001
        told.set()
        # The rest of the frame that the tunnel was within, and more.
        with contextlib.suppress(OSError):
            peer.socket.sendall(FRAME * 2)
        peer.wait_for_end()

    upstream.on(path := fresh(), flood)
    gateway = shared_gateway(plain(upstream.url, WEBSOCKET_STALL_TIMEOUT_SECONDS="1.5"))
    with small_buffer(gateway) as client:
        client.send(UPGRADE.format(path).encode())
        assert told.wait(PATIENCE)
        received = b""
        while octets := client.socket.recv(1 << 16):
            received += octets
    frames = received.partition(b"\r\n\r\n")[2]
    assert frames.startswith(FRAME[:8])
    assert frames.endswith(CLOSE_1013)


def test_an_upstream_that_takes_nothing(shared_gateway: StartGateway, upstream: ProgrammedUpstream) -> None:
    over: list[bool] = []

    def idle(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH)
        eventually(lambda: bool(over), "the end of the test")

    upstream.on(path := fresh(), idle)
    gateway = shared_gateway(plain(upstream.url, WEBSOCKET_STALL_TIMEOUT_SECONDS="1.5"))
    with RawClient(gateway.port) as client:
        upgraded(client, path)
        fill(client.socket, b"\x82\xfe" + (8000).to_bytes(2) + b"\0\0\0\0" + b"m" * 8000)
        gateway.wait_for_metric('websocket_backpressure_drops_total{route="proxy",side="upstream"}', 1)
        assert client.read_rest(PATIENCE)[0].endswith(CLOSE_1013)
    over.append(True)


def test_a_client_that_answers_no_ping(start_gateway: StartGateway, upstream: ProgrammedUpstream) -> None:
    got: list[bytes] = []

    def answer_pings(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH)
        while True:
            frame = peer.exactly(2)
            rest = peer.exactly(4 + (frame[1] & 0x7F))
            if frame[0] == 0x88:
                got.append(frame + rest)
                return
            payload = bytes(byte ^ rest[index % 4] for index, byte in enumerate(rest[4:]))
            peer.send(bytes((0x8A, len(payload))) + payload)

    upstream.on(path := fresh(), answer_pings)
    gateway = start_gateway(
        plain(upstream.url, WEBSOCKET_STALL_TIMEOUT_SECONDS="2", WEBSOCKET_PING_INTERVAL_SECONDS="0.5")
    )
    with RawClient(gateway.port) as client:
        upgraded(client, path)
        rest, _ = client.read_rest(PATIENCE)
    # One Ping, whose answer it waits for, and none of the upstream's Pongs.
    assert (rest[:2], rest[10:]) == (PING, CLOSE_1013)
    eventually(lambda: bool(got), "the Close to the upstream")
    assert unmasked_close(got[0]) == 1001
    gateway.wait_for_metric('websocket_connections_ended_total{route="proxy",by="unresponsive_client"}', 1)
    gateway.wait_for_line("a side answered no Ping for 2 s (the client of 1, ")


@contextlib.asynccontextmanager
async def aiohttp_server(heartbeat: float | None = None) -> AsyncIterator[str]:
    """An echo that compresses, and looks after its clients itself if it is to."""

    async def echo(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(heartbeat=heartbeat, compress=True)
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(message.data)
        return socket

    async def page(request: web.Request) -> web.Response:
        return web.Response(text=PAGE, content_type="text/html")

    async def seen(request: web.Request) -> web.Response:
        return web.Response(status=418)

    application = web.Application()
    application.add_routes([web.get("/ws", echo), web.get("/page", page), web.get("/seen", seen)])
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await (site := web.TCPSite(runner, "127.0.0.1", 0)).start()
        yield site.name
    finally:
        await runner.cleanup()


PAGE = """<!doctype html><title>waiting</title><script>
const socket = new WebSocket(location.origin.replace("http", "ws") + "/proxy/ws");
const got = [];
socket.onopen = () => { socket.send("x".repeat(300)); setTimeout(() => socket.send("still here"), 3000); };
socket.onmessage = event => { got.push(event.data.length); if (got.length === 2) socket.close(4000, "done"); };
socket.onclose = event => { fetch("/proxy/seen?" + socket.extensions + ";" + got + ";" + event.code); };
</script>"""


@pytest.mark.parametrize("heartbeat", [None, 0.4], ids=["silent", "with pings of its own"])
async def test_peers_of_aiohttp_that_are_silent_stay(start_gateway: StartGateway, heartbeat: float | None) -> None:
    async with aiohttp_server(heartbeat) as url:
        gateway = await asyncio.to_thread(
            start_gateway,
            plain(url, WEBSOCKET_STALL_TIMEOUT_SECONDS="2", WEBSOCKET_PING_INTERVAL_SECONDS="0.3"),
        )
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{gateway.url}/proxy/ws", compress=15, autoping=False) as socket,
        ):
            assert socket.compress, "the extension was agreed on"
            pings = 0
            ends = time.monotonic() + 4.0
            while time.monotonic() < ends:
                with contextlib.suppress(TimeoutError):
                    message = await socket.receive(timeout=0.2)
                    assert message.type is aiohttp.WSMsgType.PING
                    pings += 1
                    await socket.pong(message.data)
            assert pings > 2
            for text in ("a" * 1000, "still here"):
                await socket.send_str(text)
                while (message := await socket.receive(timeout=PATIENCE)).type is aiohttp.WSMsgType.PING:
                    await socket.pong(message.data)
                assert message.data == text
            assert await socket.close()
        await asyncio.to_thread(
            gateway.wait_for_metric, 'websocket_connections_ended_total{route="proxy",by="client"}', 1
        )


@pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium here")
async def test_a_browser_answers_pings(start_gateway: StartGateway, tmp_path: Path) -> None:
    async with aiohttp_server() as url:
        settings = plain(url, WEBSOCKET_STALL_TIMEOUT_SECONDS="1.5", WEBSOCKET_PING_INTERVAL_SECONDS="0.3")
        gateway = await asyncio.to_thread(start_gateway, settings)
        command = [
            *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--remote-debugging-port=0", "--no-first-run"),
            f"{gateway.url}/proxy/page",
        ]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: ASYNC220
        try:
            (record,) = await asyncio.to_thread(gateway.wait_for_records, 1, 60.0, status=418)
        finally:
            browser.kill()
            await asyncio.to_thread(browser.wait)
    # It was silent for 3 s, twice the time after which it would have been given up.
    assert record["target"] == "/proxy/seen?permessage-deflate;300,10;1000"


def test_a_client_cannot_have_all_tunnels(start_gateway: StartGateway, stub: StubProcess) -> None:
    gateway = start_gateway(
        plain(
            stub.url,
            MAX_WEBSOCKET_CONNECTIONS="4",
            MAX_WEBSOCKET_CONNECTIONS_CLIENT_SHARE="0.5",
            TRUSTED_PROXIES="127.0.0.1",
        )
    )
    with contextlib.ExitStack() as stack:

        def ask(client: str) -> tuple[int, str, str | None]:
            raw = stack.enter_context(RawClient(gateway.port))
            head = UPGRADE.format("/ws").replace("Host: a", f"Host: a\r\nX-Forwarded-For: {client}")
            answer = raw.request(head.encode())
            reason = json.loads(answer.body)["reason"] if answer.body else ""
            return answer.status, reason, answer.get("Retry-After")

        # All of a /64 is one client.
        assert [ask("2001:db8::1")[0], ask("2001:db8::2")[0]] == [101, 101]
        assert ask("2001:db8::3") == (429, "client_tunnel_limit", None)
        assert [ask("2001:db8:0:1::1")[0], ask("192.0.2.1")[0]] == [101, 101]
        status, reason, retry_after = ask("192.0.2.2")
        assert (status, reason) == (503, "tunnel_limit")
        assert retry_after is not None
        gateway.wait_for_metric('gateway_refusals_total{reason="client_tunnel_limit"}', 1)
        gateway.wait_for_metric('websocket_connections_max{route="proxy"}', 4)
        gateway.wait_for_line("active connections of 4")

"""WebSocket tunnels through the gateway: what passes, what is capped, and how they end."""

import asyncio
import json
import os
import signal
import time
from collections.abc import Callable, Iterator

import aiohttp
import pytest

from tests.conformance.wire.clients import plain
from tests.conformance.wire.upstream import Peer, ProgrammedUpstream, Seen, fresh
from tests.support.gateway_process import GatewayProcess
from tests.support.raw_http import RawClient
from tests.support.stub_process import StubProcess
from tests.support.waiting import PATIENCE, eventually, stands_still

UPGRADE = (
    "GET /proxy{} HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: WebSocket\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\n\r\n"
)


@pytest.fixture(scope="module")
def gateway(stub_process: StubProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(plain(stub_process.url), tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture(scope="module")
def raw_gateway(upstream: ProgrammedUpstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with GatewayProcess(plain(upstream.url), tmp_path_factory.mktemp("gateway")) as process:
        yield process


async def test_text_binary_and_large_messages_come_back(gateway: GatewayProcess) -> None:
    async with aiohttp.ClientSession() as session:
        url = f"{gateway.url}/proxy/ws"
        async with session.ws_connect(url, protocols=("chat",), max_msg_size=0) as socket:
            assert socket.protocol == "chat"
            for message in ("hello", "", "\u00e4" * 200, "x" * 70_000):
                await socket.send_str(message)
                assert await socket.receive_str(timeout=PATIENCE) == message
            for size in (1, 125, 126, 65_535, 65_536, 5_000_000):
                data = os.urandom(size)
                await socket.send_bytes(data)
                assert await socket.receive_bytes(timeout=PATIENCE) == data
            await socket.close(code=4001, message=b"enough")
        assert socket.close_code == 1000  # what the stub answers with


async def test_twenty_at_once(gateway: GatewayProcess) -> None:
    async def one(session: aiohttp.ClientSession, number: int) -> str:
        async with session.ws_connect(f"{gateway.url}/proxy/ws") as socket:
            for _ in range(20):
                await socket.send_str(str(number))
                assert await socket.receive_str(timeout=PATIENCE) == str(number)
        return str(number)

    async with aiohttp.ClientSession() as session:
        assert len(await asyncio.gather(*(one(session, n) for n in range(20)))) == 20


async def test_an_upstream_that_drops_ends_the_tunnel(gateway: GatewayProcess) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{gateway.url}/proxy/ws?ending=drop") as socket,
    ):
        await socket.send_str("x")
        message = await socket.receive(timeout=PATIENCE)
        assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.CLOSE, aiohttp.WSMsgType.ERROR}
        assert socket.close_code == 1006


async def test_a_client_that_drops_ends_the_upstreams_side(gateway: GatewayProcess, stub: StubProcess) -> None:
    with RawClient(gateway.port) as client:
        assert client.request(UPGRADE.format("/ws").encode()).status == 101
        assert stub.stats()["max_in_flight_by_path"]["/ws"] == 1
        client.reset()
    eventually(lambda: stub.stats()["in_flight"] == 0, "the tunnel to end")


def test_an_ordinary_answer_to_an_upgrade(raw_gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    path = fresh()
    with RawClient(raw_gateway.port) as client:
        assert client.request(UPGRADE.format(path).encode()).status == 200
        assert client.request(b"GET /proxy/again HTTP/1.1\r\nHost: a\r\n\r\n").status == 200
    seen = upstream.only(path)
    assert (seen.get("Connection"), seen.get("Upgrade")) == ("Upgrade", "websocket")
    assert seen.get("Sec-WebSocket-Key") == "dGhlIHNhbXBsZSBub25jZQ=="


@pytest.mark.parametrize("asked", [UPGRADE, "GET /proxy{} HTTP/1.1\r\nHost: a\r\n\r\n"])
def test_an_upstream_that_requires_an_upgrade_is_heard(
    asked: str, raw_gateway: GatewayProcess, upstream: ProgrammedUpstream
) -> None:
    """RFC 9110 section 15.5.22: a 426 says in `Upgrade` what it requires (haproxy/haproxy#1997)."""
    required = (
        b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n"
    )
    upstream.on(path := fresh(), required)
    with RawClient(raw_gateway.port) as client:
        response = client.request(asked.format(path).encode())
        assert (response.status, response.get("Connection"), response.get("Upgrade")) == (426, "Upgrade", "websocket")
        assert client.request(b"GET /proxy/again HTTP/1.1\r\nHost: a\r\n\r\n").status == 200


def test_bytes_that_came_with_the_heads_are_not_lost(raw_gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    got: list[bytes] = []

    def switch(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH + b"\x81\x05early")
        got.append(peer.exactly(11))
        peer.wait_for_end()

    upstream.on(path := fresh(), switch)
    frame = b"\x81\x85\x00\x00\x00\x00first"
    with RawClient(raw_gateway.port) as client:
        response = client.request(UPGRADE.format(path).encode() + frame)
        assert (response.status, response.get("Upgrade"), response.get("Sec-WebSocket-Accept")) == (
            101,
            "websocket",
            "x",
        )
        eventually(lambda: bool(got), "the first frame")
        assert got == [frame]
        eventually(lambda: client.fate(0.05) == "open" and client.unread == b"\x81\x05early", "the first words")


def test_another_protocol_than_the_one_asked_for(raw_gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    upstream.on(path := fresh(), SWITCH.replace(b"websocket", b"h2c"))
    with RawClient(raw_gateway.port) as client:
        assert client.request(UPGRADE.format(path).encode()).status == 502


def test_backpressure(raw_gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    sent = [0]

    def flood(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH)
        while sent[0] < 200_000_000:
            peer.send(b"\x82\x7f" + (1 << 20).to_bytes(8) + bytes(1 << 20))
            sent[0] += 1 << 20

    upstream.on(path := fresh(), flood)
    before = raw_gateway.memory_bytes()
    with RawClient(raw_gateway.port) as client:
        assert client.request(UPGRADE.format(path).encode()).status == 101
        assert stands_still(lambda: sent[0]) < 200_000_000
        assert raw_gateway.memory_bytes() - before < 20_000_000


def test_the_last_words_reach_a_slow_reader(raw_gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    """An upstream that says much and closes: the client reads it over longer than a close may take."""
    size = 30_000_000

    def speak(peer: Peer, seen: Seen) -> None:
        peer.send(SWITCH + b"\x82\x7f" + size.to_bytes(8) + bytes(size))
        peer.close()

    upstream.on(path := fresh(), speak)
    with RawClient(raw_gateway.port) as client:
        client.send(UPGRADE.format(path).encode())
        client.socket.settimeout(PATIENCE)
        time.sleep(0.3)
        total = 0
        while octets := client.socket.recv(1_000_000):
            total += len(octets)
            if total > 20_000_000:
                time.sleep(0.3)
    assert total > size


def test_the_cap_per_route(start_gateway: Callable[..., GatewayProcess], stub: StubProcess) -> None:
    gateway = start_gateway(plain(stub.url, MAX_WEBSOCKET_CONNECTIONS="2"))
    clients = [RawClient(gateway.port) for _ in range(3)]
    try:
        assert [client.request(UPGRADE.format("/ws").encode()).status for client in clients[:2]] == [101, 101]
        refused = clients[2].request(UPGRADE.format("/ws").encode())
        assert refused.status == 503
        assert json.loads(refused.body)["reason"] == "tunnel_limit"
        told = {clients[2].request(UPGRADE.format("/ws").encode()).get("Retry-After") for _ in range(40)}
        assert len(told) > 1, "those who obey come back as one wave"
        clients[0].close()
        # Not when the upstream has seen the end: the place is the gateway's.
        gateway.wait_for_metric('websocket_connections_active{route="proxy"}', 1)
        assert clients[2].request(UPGRADE.format("/ws").encode()).status == 101
    finally:
        for client in clients:
            client.close()


def test_the_cap_holds_while_upstreams_are_slow_to_switch(
    start_gateway: Callable[..., GatewayProcess], upstream: ProgrammedUpstream
) -> None:
    """Ten at once, all before the first has switched: no more than two tunnels may come of it."""

    def switch_late(peer: Peer, seen: Seen) -> None:
        time.sleep(1.0)
        peer.send(SWITCH)
        peer.wait_for_end()

    upstream.on(path := fresh(), switch_late)
    gateway = start_gateway(plain(upstream.url, MAX_WEBSOCKET_CONNECTIONS="2"))
    clients = [RawClient(gateway.port) for _ in range(10)]
    try:
        for client in clients:
            client.send(UPGRADE.format(path).encode())
        statuses = [client.read_response().status for client in clients]
        assert statuses.count(101) == 2
    finally:
        for client in clients:
            client.close()


def test_silence_closes_a_tunnel(start_gateway: Callable[..., GatewayProcess], stub: StubProcess) -> None:
    gateway = start_gateway(plain(stub.url, WEBSOCKET_IDLE_TIMEOUT_SECONDS="2"))
    with RawClient(gateway.port) as client:
        assert client.request(UPGRADE.format("/ws").encode()).status == 101
        for _ in range(4):  # traffic keeps it open
            time.sleep(0.7)
            client.send(b"\x81\x82\x00\x00\x00\x00hi")
        started = time.monotonic()
        rest, ending = client.read_rest()
        assert ending == "closed"
        assert rest == b"\x81\x02hi" * 4 + b"\x88\x02\x03\xe9"
        assert time.monotonic() - started > 1.0


async def test_a_stop_says_going_away(start_gateway: Callable[..., GatewayProcess], stub: StubProcess) -> None:
    gateway = start_gateway(plain(stub.url, DRAIN_TIMEOUT_SECONDS="10"))
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{gateway.url}/proxy/ws") as socket:
        await socket.send_str("x")
        assert await socket.receive_str(timeout=PATIENCE) == "x"
        gateway.send_signal(signal.SIGTERM)
        message = await socket.receive(timeout=PATIENCE)
        assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
    assert await asyncio.to_thread(gateway.wait) == 0
    tunnels = gateway.log_records(status=101)
    assert [record["decisions"]["tunnel"] for record in tunnels] == ["gateway"]


async def test_an_open_tunnel_is_a_connection_on_both_sides(
    start_gateway: Callable[..., GatewayProcess], stub: StubProcess
) -> None:
    gateway = start_gateway(plain(stub.url))
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{gateway.url}/proxy/ws") as socket:
        await socket.send_str("x")
        assert await socket.receive_str(timeout=PATIENCE) == "x"
        for series in ('gateway_connections{side="upstream"}', 'websocket_connections_active{route="proxy"}'):
            await asyncio.to_thread(gateway.wait_for_metric, series, 1)


def test_no_tunnel_where_they_are_not_allowed(
    start_gateway: Callable[..., GatewayProcess], upstream: ProgrammedUpstream
) -> None:
    gateway = start_gateway(plain(upstream.url, WEBSOCKET_ENABLED="false"))
    path = fresh()
    with RawClient(gateway.port) as client:
        assert client.request(UPGRADE.format(path).encode()).status == 200
    assert upstream.only(path).get("Upgrade") is None


def test_a_switch_of_protocols_frames_no_body(raw_gateway: GatewayProcess, upstream: ProgrammedUpstream) -> None:
    """RFC 9110 section 8.6 and RFC 9112 section 6.1: a 1xx has neither length nor transfer coding."""
    framing = b"Content-Length: 5\r\nX-Own: kept\r\n\r\n"
    upstream.on(path := fresh(), SWITCH[:-2] + framing, SWITCH[:-2] + b"Transfer-Encoding: chunked\r\n\r\n")
    for own in ("kept", None):
        with RawClient(raw_gateway.port) as client:
            response = client.request(UPGRADE.format(path).encode())
            assert (response.status, response.get("X-Own")) == (101, own)
            names = {name.lower() for name, _ in response.headers}
            assert not names & {"content-length", "transfer-encoding", "trailer", "keep-alive"}

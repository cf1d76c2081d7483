"""The control plane on real sockets, on connections that another protocol accepted and began to read."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import cast

import pytest
from aiohttp import web
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.control.api.live import streamed
from gateway.control.app import ControlPlane
from gateway.control.health import report
from gateway.control.live.broadcast import Listener
from gateway.control.paths import is_control_path, is_control_path_or_root
from gateway.control.ports.gateway import (
    CertificateView,
    CircuitView,
    EndpointView,
    HostView,
    IssuerView,
    RedisView,
    RouteView,
)
from gateway.control.ports.journal import JournalView
from gateway.telemetry.metrics.catalogue import Metrics

NOW = 1_700_000_100.0


@dataclass
class View:
    service: str = "gateway"
    version: str = "1.2.3"
    started_at: float = NOW - 100
    starting: bool = False
    draining: bool = False
    in_flight: int = 7
    max_in_flight: int = 1000
    connections: int = 3
    upstream_connections: int = 2
    host: HostView | None = None
    redis: RedisView | None = None
    embedded_store: RedisView | None = None
    journal: JournalView | None = None
    replicas: int = 1
    certificate: CertificateView | None = None
    issuers: tuple[IssuerView, ...] = ()
    circuits: list[CircuitView] = field(default_factory=lambda: [circuit("default"), circuit("payments")])
    endpoints: list[EndpointView] = field(
        default_factory=lambda: [EndpointView("default", "127.0.0.1:5001", True, False, 1)]
    )
    tunnels: list[tuple[str, int]] = field(default_factory=lambda: [("chat", 4)])
    routes: tuple[RouteView, ...] = ()


class BrokenView(View):
    @property
    def draining(self) -> bool:
        raise RuntimeError("redis://:secret@10.0.0.1 is not for the public")

    @draining.setter
    def draining(self, value: bool) -> None:
        pass


def circuit(upstream: str, state: str = "closed", *, retry_after: float = 0.0, cause: str = "") -> CircuitView:
    opened_at = NOW - 10 if state in {"open", "forced_open"} else None
    return CircuitView(upstream, state, 5 if opened_at else 0, 3, retry_after, cause, opened_at)


class Front(asyncio.Protocol):
    """Stands in for the data plane: reads up to the end of the head, then hands the transport over."""

    def __init__(self, control: ControlPlane, lost: Callable[[], None]) -> None:
        self._control = control
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._seen += data
        if b"\r\n\r\n" in self._seen and self._transport is not None:
            protocol = self._control.protocol(self._lost)
            self._transport.set_protocol(protocol)
            protocol.connection_made(self._transport)
            protocol.data_received(self._seen)


@dataclass
class Served:
    port: int
    control: ControlPlane
    metrics: Metrics
    view: View
    lost: list[None]

    async def ask(self, raw: bytes) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body of the answer to raw bytes; the server must close by itself."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(raw)
            return parsed(await asyncio.wait_for(reader.read(), 30))
        finally:
            await closed(writer)

    async def get(self, path: str, *lines: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        head = "\r\n".join((f"{method} {path} HTTP/1.1", "Host: gateway", *lines))
        return await self.ask(f"{head}\r\n\r\n".encode())


def parsed(raw: bytes) -> tuple[int, dict[str, str], bytes]:
    head, _, body = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return int(status.split()[1]), headers, body


async def closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


@asynccontextmanager
async def serving(
    view: View | None = None,
    *,
    more: Sequence[web.RouteDef] = (),
    connection_timeout: float = 30.0,
    request_timeout: float = 10.0,
) -> AsyncIterator[Served]:
    view = view or View()
    metrics = Metrics("gateway", ["default"], ["default", "payments"], view.version, policies=["default"])
    control = ControlPlane(
        view,
        metrics,
        more=more,
        connection_timeout=connection_timeout,
        request_timeout=request_timeout,
        clock=lambda: NOW,
    )
    await control.start()
    lost: list[None] = []
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Front(control, lambda: lost.append(None)), "127.0.0.1", 0)
    try:
        yield Served(server.sockets[0].getsockname()[1], control, metrics, view, lost)
    finally:
        server.close()
        await control.stop()
        await server.wait_closed()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture(autouse=True)
def _nothing_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    caplog.set_level(logging.INFO)
    yield
    assert [record.getMessage() for record in caplog.get_records("call")] == []


async def test_health_on_a_connection_handed_over() -> None:
    async with serving() as gateway:
        status, headers, body = await gateway.get("/health")
        assert status == 200
        assert headers["content-type"] == "application/json"
        assert headers["connection"] == "close"
        assert headers["server"] == "gateway"
        assert headers["cache-control"] == "no-store"
        assert body.endswith(b"}\n")
        answer = json.loads(body)
        assert (answer["status"], answer["reasons"], answer["uptime_seconds"]) == ("healthy", [], 100.0)
        assert answer["checks"]["redis"] == {"status": "disabled"}
        await until(lambda: gateway.lost == [None])
        assert gateway.control.connections == 0


async def test_a_journal_that_does_not_work_is_a_reason() -> None:
    async with serving(View(journal=JournalView(True, "", NOW - 7))) as gateway:
        answer = json.loads((await gateway.get("/health"))[2])
        assert (answer["status"], answer["checks"]["journal"]["works"]) == ("healthy", True)
    async with serving(View(journal=JournalView(False, "the disk is full", NOW - 7))) as gateway:
        answer = json.loads((await gateway.get("/health"))[2])
        assert (answer["status"], answer["checks"]["journal"]["status"]) == ("degraded", "degraded")
        assert any("for 7 s (the disk is full)" in reason for reason in answer["reasons"])


async def test_a_lost_embedded_store_is_a_reason_of_its_own() -> None:
    async with serving(View(embedded_store=RedisView(True, NOW, None, 2))) as gateway:
        answer = json.loads((await gateway.get("/health"))[2])
        assert (answer["status"], answer["checks"]["embedded_store"]["replicas"]) == ("healthy", 2)
    async with serving(View(embedded_store=RedisView(False, NOW - 7, "the supervisor is gone", 2))) as gateway:
        answer = json.loads((await gateway.get("/health"))[2])
        assert (answer["status"], answer["checks"]["embedded_store"]["status"]) == ("degraded", "degraded")
        (reason,) = answer["reasons"]
        assert reason.startswith("The embedded store has been away for 7 s (the supervisor is gone)")
        assert "Redis" not in reason


async def test_head_has_the_headers_of_get_and_no_body() -> None:
    async with serving() as gateway:
        for path in ("/health", "/livez", "/readyz", "/status/breakers"):
            got = await gateway.get(path)
            status, headers, body = await gateway.get(path, method="HEAD")
            assert (status, body) == (200, b"")
            assert headers["content-length"] == got[1]["content-length"] == str(len(got[2]))


async def test_the_query_an_absolute_target_and_http_1_0_are_understood() -> None:
    async with serving() as gateway:
        assert (await gateway.get("/livez?x=%00&y"))[0] == 200
        assert (await gateway.get("http://gateway:5000/livez"))[0] == 200
        status, headers, _ = await gateway.ask(b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (status, headers.get("connection")) == (200, "close")


async def test_readiness_follows_starting_and_draining() -> None:
    async with serving() as gateway:
        assert (await gateway.get("/readyz"))[0] == 200
        gateway.view.starting = True
        status, headers, body = await gateway.get("/readyz")
        assert (status, json.loads(body)["reason"], headers["retry-after"]) == (503, "starting", "1")
        gateway.view.starting, gateway.view.draining = False, True
        status, headers, body = await gateway.get("/readyz", "X-Request-ID: abc-1")
        assert status == 503
        assert headers["content-type"] == "application/problem+json"
        assert headers["x-request-id"] == "abc-1"
        assert json.loads(body) == {
            "type": "urn:problem:gateway:draining",
            "title": "Service Unavailable",
            "status": 503,
            "detail": "The gateway is stopping.",
            "reason": "draining",
            "retry_after": 1,
            "request_id": "abc-1",
        }
        assert (await gateway.get("/livez"))[0] == 200


async def test_unknown_paths_and_methods_are_problems() -> None:
    async with serving() as gateway:
        for path in ("/status/nothing", "/api/resilience/health", "/status/../health", "/status/%00"):
            status, headers, body = await gateway.get(path)
            assert (status, json.loads(body)["reason"]) == (404, "not_found")
            assert headers["content-type"] == "application/problem+json"
            assert (headers["server"], headers["connection"]) == ("gateway", "close")
        status, headers, body = await gateway.get("/health", "Content-Length: 0", method="POST")
        assert (status, json.loads(body)["reason"], headers["allow"]) == (405, "method_not_allowed", "GET, HEAD")
        assert body.endswith(b"}\n")


async def test_an_unusable_request_id_is_replaced() -> None:
    async with serving() as gateway:
        for given in ("x" * 200, "a b", "caf\u00e9"):
            _, headers, _ = await gateway.get("/livez", f"X-Request-ID: {given}")
            assert headers["x-request-id"] != given
            assert len(headers["x-request-id"]) == 32


async def test_breakers_are_keyed_by_upstream() -> None:
    view = View(
        circuits=[
            circuit("default", "open", retry_after=12.3456, cause="5 consecutive failures"),
            circuit("payments", "half_open"),
            circuit("search", "forced_closed", retry_after=60, cause="operator"),
        ]
    )
    async with serving(view) as gateway:
        _, _, body = await gateway.get("/status/breakers")
    answer = json.loads(body)
    assert answer["default"] == {
        "state": "open",
        "value": 1,
        "forced": False,
        "failures": 5,
        "retry_after": 12.346,
        "since": "2023-11-14T22:14:50.000Z",
        "cause": "5 consecutive failures",
        "generation": 3,
    }
    assert [(name, each["state"], each["value"], each["forced"]) for name, each in answer.items()] == [
        ("default", "open", 1, False),
        ("payments", "half_open", 2, False),
        ("search", "closed", 0, True),
    ]


async def test_metrics_in_both_formats_with_the_gauges_of_the_view() -> None:
    view = View(
        redis=RedisView(True, NOW, None, 2),
        replicas=2,
        circuits=[circuit("default", "forced_open"), circuit("payments")],
    )
    async with serving(view) as gateway:
        gateway.metrics.route("default").exchange("GET", 200, 0.01)
        status, headers, body = await gateway.get("/metrics")
        assert (status, headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
        values = {
            (sample.name, *sample.labels.values()): sample.value
            for family in parse_text(body.decode())
            for sample in family.samples
        }
        assert values["circuit_breaker_state", "default"] == 2
        assert values["breaker_state", "default"] == 1
        assert values["breaker_state", "payments"] == 0
        assert values[("redis_up",)] == 1
        assert values[("gateway_replicas",)] == 2
        assert values[("http_requests_in_flight",)] == 7
        assert values["gateway_connections", "client"] == 3
        assert values["websocket_connections_active", "chat"] == 4
        assert values["gateway_endpoint_available", "default", "127.0.0.1:5001"] == 1
        status, headers, body = await gateway.get("/metrics", "Accept: application/openmetrics-text;version=1.0.0")
        assert headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
        families = parse_openmetrics(body.decode())  # type: ignore[no-untyped-call]
        assert {family.name for family in families} >= {"http_requests", "redis_up"}


async def test_two_requests_on_one_connection_get_one_answer_and_a_close() -> None:
    async with serving() as gateway:
        status, headers, body = await gateway.ask(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n" * 2)
        assert (status, headers["connection"], body) == (200, "close", b'{"status":"alive"}\n')


async def test_a_client_that_ends_its_side_still_gets_its_answer() -> None:
    async with serving() as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        writer.write_eof()
        assert parsed(await asyncio.wait_for(reader.read(), 30))[0] == 200
        await closed(writer)


async def test_a_refused_body_does_not_cost_the_answer() -> None:
    async with serving() as gateway:
        head = b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n"
        status, _, body = await gateway.ask(head + b"x" * 300_000)
        assert (status, json.loads(body)["reason"]) == (405, "method_not_allowed")


async def test_a_head_as_large_as_the_data_plane_allows_is_served() -> None:
    async with serving() as gateway:
        status, _, _ = await gateway.get("/livez?" + "q" * 8_100, "Cookie: " + "c" * 30_000)
        assert status == 200
        status, _, _ = await gateway.get("/livez", *(f"X-{number}: y" for number in range(99)))
        assert status == 200


async def test_what_aiohttp_takes_for_malformed_is_a_problem_without_details() -> None:
    async with serving() as gateway:
        status, headers, body = await gateway.ask(b"GET /livez HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n")
        assert (status, headers["content-type"]) == (400, "application/problem+json")
        assert (headers["server"], headers["connection"]) == ("gateway", "close")
        assert json.loads(body)["reason"] == "bad_request"


async def test_clients_that_abort_leave_nothing_behind() -> None:
    async with serving() as gateway:
        for raw in (
            b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n",
            b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc",
            b"GET /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        ):
            for _ in range(20):
                _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
                writer.write(raw)
                await writer.drain()
                writer.transport.abort()
                await closed(writer)
        assert (await gateway.get("/livez"))[0] == 200
        await until(lambda: gateway.control.connections == 0)


async def length(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


async def test_a_body_that_does_not_come_is_a_408() -> None:
    async with serving(more=[web.post("/chaos/length", length)], request_timeout=1.0) as gateway:
        raw = b"POST /chaos/length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
        status, _, body = await gateway.ask(raw)
        assert (status, json.loads(body)["reason"]) == (408, "request_timeout")
        status, _, body = await gateway.ask(raw + b"defghij")
        assert (status, body) == (200, b"10")


async def test_a_body_beyond_the_limit_is_a_413() -> None:
    async with serving(more=[web.post("/chaos/length", length)]) as gateway:
        head = b"POST /chaos/length HTTP/1.1\r\nHost: a\r\nContent-Length: 70000\r\n\r\n"
        status, _, body = await gateway.ask(head + b"x" * 70_000)
        assert (status, json.loads(body)["reason"]) == (413, "body_too_large")


async def test_a_client_that_leaves_within_its_body_is_not_our_failure() -> None:
    async with serving(more=[web.post("/chaos/length", length)]) as gateway:
        for _ in range(20):
            _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"POST /chaos/length HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
            await until(lambda: gateway.control.connections == 1)
            writer.transport.abort()
            await closed(writer)
            await until(lambda: gateway.control.connections == 0)


async def test_a_client_that_does_not_read_is_cut_off() -> None:
    async def large(_: web.Request) -> web.Response:
        return web.Response(body=bytes(20_000_000))

    async with serving(more=[web.get("/chaos/large", large)], connection_timeout=1.0) as gateway:
        _, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"GET /chaos/large HTTP/1.1\r\nHost: a\r\n\r\n")
        await until(lambda: gateway.control.connections == 1)
        await until(lambda: gateway.control.connections == 0)
        assert gateway.lost == [None]
        await closed(writer)


async def test_a_client_that_does_not_finish_sending_is_cut_off() -> None:
    async with serving(connection_timeout=1.0) as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        assert parsed(await reader.readuntil(b"\r\n\r\n"))[0] == 405
        await until(lambda: gateway.control.connections == 0)
        await closed(writer)


async def test_an_exception_is_a_500_that_leaks_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(BrokenView()) as gateway:
        caplog.clear()
        status, headers, body = await gateway.get("/health")
        assert (status, headers["content-type"]) == (500, "application/problem+json")
        problem = json.loads(body)
        assert (problem["reason"], problem["request_id"]) == ("internal_error", headers["x-request-id"])
        assert b"secret" not in body
        assert b"10.0.0.1" not in body
        assert (await gateway.get("/livez"))[0] == 200
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("ERROR", "control request failed")
    ]
    caplog.clear()


async def test_a_broken_gauge_is_left_out_of_the_scrape(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(BrokenView()) as gateway:
        caplog.clear()
        status, _, body = await gateway.get("/metrics")
        assert status == 200
        assert b"gateway_draining" not in body
        assert b"http_requests_in_flight 7\n" in body
    assert [record.getMessage() for record in caplog.records] == ["metric could not be read"]
    caplog.clear()


async def test_stop_closes_what_is_open_and_may_be_called_twice() -> None:
    async with serving() as gateway:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(b"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
        await until(lambda: gateway.control.connections == 1)
        started = asyncio.get_running_loop().time()
        await gateway.control.stop()
        assert asyncio.get_running_loop().time() - started < 20
        await asyncio.wait_for(reader.read(), 30)
        await closed(writer)
        with pytest.raises(RuntimeError, match="not running"):
            gateway.control.protocol()


async def test_hundreds_of_polls_at_once() -> None:
    async with serving() as gateway:
        answers = await asyncio.gather(*(gateway.get("/health") for _ in range(300)))
        assert {status for status, _, _ in answers} == {200}
        await until(lambda: gateway.control.connections == 0)


@pytest.mark.parametrize(
    ("changes", "status", "word"),
    [
        ({}, "healthy", None),
        ({"redis": RedisView(True, NOW - 5, None, 2)}, "healthy", None),
        ({"redis": RedisView(False, NOW - 5, "timed out", 1)}, "degraded", "unreachable for 5 s (timed out)"),
        ({"circuits": [circuit("a", "open", retry_after=9.6, cause="why"), circuit("b")]}, "degraded", "(why)"),
        ({"circuits": [circuit("a", "half_open"), circuit("b")]}, "degraded", "half-open"),
        ({"circuits": [circuit("a", "forced_open"), circuit("b")]}, "degraded", "by an operator"),
        ({"circuits": [circuit("a", "forced_closed")]}, "healthy", None),
        ({"circuits": [circuit("a", "open"), circuit("b", "half_open")]}, "unhealthy", "half-open"),
        ({"circuits": []}, "healthy", None),
        ({"endpoints": [EndpointView("a", "h:1", True, True, 0)]}, "degraded", "No endpoint of a"),
        (
            {"endpoints": [EndpointView("a", "h:1", False, False, 0), EndpointView("a", "h:2", True, False, 0)]},
            "healthy",
            None,
        ),
        ({"in_flight": 1000}, "degraded", "1000 of 1000"),
        ({"starting": True}, "degraded", "starting"),
        ({"draining": True}, "unhealthy", "stopping"),
    ],
)
def test_the_word_of_health_and_its_reason(changes: dict[str, object], status: str, word: str | None) -> None:
    answer = report(View(**changes), NOW)  # type: ignore[arg-type]
    assert answer["status"] == status
    reasons = answer["reasons"]
    assert isinstance(reasons, list)
    if word is None:
        assert reasons == []
    else:
        assert word in reasons[-1]


@pytest.mark.parametrize(
    "path",
    [b"/health", b"/livez", b"/readyz", b"/metrics", b"/status/breakers", b"/status/", b"/api/resilience",
     b"/api/resilience/health", b"/api/admin/cleanup/alerts", b"/api/test/x", b"/chaos", b"/chaos/config"],
)  # fmt: skip
def test_control_paths(path: bytes) -> None:
    assert is_control_path(path)
    assert is_control_path_or_root(path)


def test_the_root_is_ours_only_where_no_route_has_it() -> None:
    assert is_control_path_or_root(b"/")
    assert not is_control_path(b"/")
    assert not is_control_path_or_root(b"//")
    assert not is_control_path_or_root(b"")


@pytest.mark.parametrize(
    "path",
    [b"", b"/", b"/proxy/ok", b"/healthz", b"/health/", b"/Health", b"/metrics/x", b"/status", b"/statusx/y",
     b"/api", b"/api/resiliencex", b"/api/administrator", b"/api/tests", b"/chaosmonkey", b"/proxy/health",
     b"//health", b"/%68ealth"],
)  # fmt: skip
def test_paths_of_the_data_plane(path: bytes) -> None:
    assert not is_control_path(path)


async def test_every_path_that_is_served_is_handed_over() -> None:
    async with serving() as gateway:
        resources = gateway.control.router.resources()
        paths = [resource.canonical for resource in resources if isinstance(resource, web.Resource)]
        assert paths
        assert [path for path in paths if not is_control_path(path.encode())] == []


async def test_a_listener_that_takes_nothing_is_dropped_and_one_that_does_outlives_the_time_limits() -> None:
    slow, quick = Listener(), Listener()
    listeners = [slow, quick]

    async def live(request: web.Request) -> web.StreamResponse:
        return await streamed(request, listeners.pop(0))

    asked = b"GET /api/resilience/live HTTP/1.1\r\nHost: gateway\r\n\r\n"
    async with serving(
        more=[web.get("/api/resilience/live", live)], request_timeout=0.2, connection_timeout=0.3
    ) as gateway:
        _, takes_nothing = await asyncio.open_connection("127.0.0.1", gateway.port, limit=1024)
        takes_nothing.write(asked)
        await until(lambda: len(listeners) == 1)
        takes, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        writer.write(asked)
        await until(lambda: not listeners)
        await takes.readuntil(b"retry: 1000\n\n")
        sent = 0
        while not slow.slow:
            # The kernel's buffers take some megabytes; then nothing is taken any more.
            slow.put(b"x" * 1_000_000)
            quick.put(b"data: %d\n\n" % sent)
            await takes.readuntil(b"data: %d\n\n" % sent)
            sent += 1
        await until(lambda: gateway.lost == [None])
        assert gateway.control.connections == 1
        await asyncio.sleep(0.5)
        quick.put(b"data: last\n\n")
        quick.end()
        await takes.readuntil(b"data: last\n\n")
        assert (await takes.read()).endswith(b"0\r\n\r\n")
        await closed(writer)
        await closed(takes_nothing)

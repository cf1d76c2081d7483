"""Several workers and their supervisor over real channels: what a look at one of them says of all."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.compiled import COMPILED
from gateway.control import gauges, health
from gateway.control.history import CircuitHistory
from gateway.control.ports.gateway import CircuitView, EndpointView, GatewayView, HostView, IssuerView, RouteView
from gateway.control.scrape import Scrape
from gateway.ipc.channel import Channel
from gateway.supervisor import one_service as supervising
from gateway.supervisor.board import Board
from gateway.telemetry.alerts.alerts import Alerts
from gateway.telemetry.alerts.rules import AlertFacts, AlertSettings, CircuitFact
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.worker import gauges as worker_gauges
from gateway.worker.host import Host
from gateway.worker.one_service import OneService
from gateway.worker.whole_view import WholeView


@dataclass
class Own:
    """The view of one process."""

    service: str = "gateway"
    version: str = "1"
    started_at: float = 0.0
    starting: bool = False
    draining: bool = False
    in_flight: int = 1
    max_in_flight: int = 100
    connections: int = 10
    upstream_connections: int = 2
    host: HostView | None = None
    redis: None = None
    embedded_store: None = None
    journal: None = None
    replicas = 1
    certificate: None = None
    issuers: tuple[IssuerView, ...] = ()
    circuits: list[CircuitView] = field(
        default_factory=lambda: [CircuitView("u", "closed", 0, 1, 0.0, "", None, calls=5, failed_calls=1)]
    )
    endpoints: list[EndpointView] = field(default_factory=lambda: [EndpointView("u", "h:1", True, False, 1)])
    tunnels: list[tuple[str, int]] = field(default_factory=lambda: [("chat", 2)])
    routes: tuple[RouteView, ...] = ()


class Slot:
    """A worker's way to its supervisor."""

    def __init__(self, slot: int) -> None:
        self.slot = slot
        self.channel: Channel
        self.silent = False

    def call(self, operation: str, body: Any = None) -> asyncio.Future[Any]:
        if self.silent:
            return asyncio.get_running_loop().create_future()
        return self.channel.call(operation, body)

    def tell(self, operation: str, body: Any = None) -> None:
        self.channel.tell(operation, body)


class Worker:
    def __init__(self, slot: int, pid: int) -> None:
        self.pid = pid
        self.own = Own()
        self.supervisor = Slot(slot)
        self.metrics = Metrics("gateway", ["r"], ["u"], "1")
        self.history = CircuitHistory(["u"])
        self.alerts = Alerts(AlertSettings(), "gateway")
        self.host = Host(slot, pid)
        self.one = OneService(self.supervisor, self.host, self.metrics, self.own, self.history)
        self.one.alerts = self.alerts
        self.view: GatewayView = WholeView(self.own, self.host)
        worker_gauges.register(self.metrics, self.host, self.one.lag)
        gauges.register(self.metrics, self.view, self.own)
        self.scrape = Scrape(self.metrics, gather=self.one.parts)
        self.deaf = False

    def serve(self, operation: str, body: Any, reply: Any) -> None:
        if not self.deaf:
            assert self.one.serve(operation, body, reply)

    async def samples(self) -> dict[str, float]:
        text, _ = await self.scrape.text("")
        return {
            f"{sample.name}{sorted(sample.labels.items())}": sample.value
            for family in parse_text(text.decode())
            for sample in family.samples
        }


class Gateway:
    """A supervisor and its workers in one process."""

    def __init__(self) -> None:
        self.board = Board()
        self.board.config_hash = "00000000002a"
        self.one = supervising.OneService(self.board)
        self.workers: list[Worker] = []
        self.pids = 100

    async def start(self, slot: int) -> Worker:
        self.pids += 1
        worker = Worker(slot, self.pids)
        ours, theirs = socket.socketpair()

        def serve(operation: str, body: Any, reply: Any) -> None:
            assert self.one.serve(slot, worker.pid, operation, body, reply)

        peer = await Channel.over(ours, serve, lambda: None)
        worker.supervisor.channel = await Channel.over(theirs, worker.serve, lambda: None)
        self.one.started(slot, worker.pid, peer)
        await worker.one.start()
        self.one.state(slot, worker.pid, "ready")
        self.workers.append(worker)
        return worker

    async def end(self, worker: Worker, cause: str | None, *, in_order: bool) -> None:
        if in_order:
            worker.one.stop()
            await worker.supervisor.call("hello")  # what was told before has come
        self.one.ended(worker.supervisor.slot, worker.pid, cause)
        self.workers.remove(worker)
        stop(worker)

    async def all_know(self, what: Callable[[Worker], bool]) -> None:
        async with asyncio.timeout(30):
            while not all(map(what, self.workers)):
                await asyncio.sleep(0.005)


def stop(worker: Worker) -> None:
    if worker.one._timer is not None:
        worker.one._timer.cancel()
    worker.one.lag.stop()
    worker.supervisor.channel.close()


@asynccontextmanager
async def gateway_of(count: int) -> AsyncIterator[Gateway]:
    gateway = Gateway()
    gateway.board.wanted = count
    gateway.one.start()
    try:
        for slot in range(count):
            await gateway.start(slot)
        yield gateway
    finally:
        gateway.one.stop()
        for worker in gateway.workers:
            stop(worker)
        await asyncio.sleep(0)


REQUESTS = "http_requests_total[('method', 'GET'), ('route', 'r'), ('service', 'gateway'), ('status', '200')]"
TOOK = "http_request_duration_seconds_count[('route', 'r')]"
BUILD = f"gateway_build_info[('compiled', '{'true' if COMPILED else 'false'}'), ('version', '1')]"


async def test_whichever_worker_is_scraped_the_counters_are_those_of_all() -> None:
    async with gateway_of(3) as gateway:
        for number, worker in enumerate(gateway.workers, 1):
            for _ in range(number):
                worker.metrics.route("r").exchange("GET", 200, 0.01)
        await gateway.all_know(lambda worker: worker.view.max_in_flight == 300)
        for worker in gateway.workers:
            found = await worker.samples()
            assert (found[REQUESTS], found[TOOK]) == (6, 6)
            assert found["http_requests_in_flight[]"] == 3
            assert found["gateway_max_in_flight[]"] == 300
            assert found["gateway_connections[('side', 'client')]"] == 30
            assert found["circuit_breaker_state[('upstream', 'u')]"] == 1
            assert found[BUILD] == 1
            for slot in ("0", "1", "2"):
                assert found[f"process_resident_memory_bytes[('worker', '{slot}')]"] > 0
                assert found[f"gateway_worker_event_loop_lag_seconds[('worker', '{slot}')]"] >= 0


async def test_a_worker_that_is_replaced_takes_nothing_away() -> None:
    async with gateway_of(2) as gateway:
        one, other = gateway.workers
        for worker in (one, other):
            worker.metrics.route("r").exchange("GET", 200, 0.01)
        await gateway.end(other, "reload", in_order=True)
        assert (await one.samples())[REQUESTS] == 2
        fresh = await gateway.start(1)
        await gateway.all_know(lambda worker: dict(worker.host.view().restarts).get("reload") == 1)
        for worker in (one, fresh):
            found = await worker.samples()
            assert found[REQUESTS] == 2
            assert found["gateway_worker_restarts_total[('cause', 'reload')]"] == 1


async def test_a_supervisor_that_does_not_answer_takes_nothing_away(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway_of(2) as gateway:
        one, other = gateway.workers
        other.metrics.route("r").exchange("GET", 200, 0.01)
        assert (await one.samples())[REQUESTS] == 1
        monkeypatch.setattr("gateway.worker.one_service.PATIENCE", 0.01)
        one.supervisor.silent = True
        one.metrics.route("r").exchange("GET", 200, 0.01)
        assert (await one.one.parts()).combined("http_requests_total")[3]["gateway\x1fGET\x1fr\x1f200"] == 2


async def test_a_worker_that_does_not_answer_counts_with_what_it_said_last(monkeypatch: pytest.MonkeyPatch) -> None:
    async with gateway_of(2) as gateway:
        one, other = gateway.workers
        other.metrics.route("r").exchange("GET", 200, 0.01)
        assert (await one.samples())[REQUESTS] == 1
        monkeypatch.setattr(supervising, "PATIENCE", 0.01)
        other.deaf = True
        other.metrics.route("r").exchange("GET", 200, 0.01)
        assert (await one.one.parts()).combined("http_requests_total")[3]["gateway\x1fGET\x1fr\x1f200"] >= 1


async def test_a_sign_of_life_that_fails_is_not_the_last_one() -> None:
    worker = Worker(0, 1)
    told: list[str] = []

    def tell(operation: str, body: Any = None) -> None:
        told.append(operation)
        if len(told) == 1:
            raise TypeError("Integer exceeds 64-bit range")

    worker.supervisor.tell = tell  # type: ignore[method-assign] # there is no supervisor
    with pytest.raises(TypeError):
        worker.one._tick()
    async with asyncio.timeout(30):
        while "snapshot" not in told[1:]:
            await asyncio.sleep(0.005)
    assert worker.one._timer is not None
    worker.one._timer.cancel()
    worker.one.lag.stop()


async def test_what_is_counted_is_told_soon_and_nothing_is_told_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is killed loses what it has not told."""
    monkeypatch.setattr("gateway.worker.one_service.IDLE_INTERVAL", 3600.0)
    async with gateway_of(1) as gateway:
        (worker,) = gateway.workers
        told: list[str] = []
        tell = worker.supervisor.tell

        def heard(operation: str, body: Any = None) -> None:
            told.append(operation)
            tell(operation, body)

        monkeypatch.setattr(worker.supervisor, "tell", heard)

        def tick() -> float:
            """Seconds until the next look."""
            if worker.one._timer is not None:
                worker.one._timer.cancel()
            told.clear()
            worker.one._snapshot_due = 0.0
            worker.one._tick()
            timer = worker.one._timer
            assert timer is not None
            return timer.when() - asyncio.get_running_loop().time()

        tick()
        assert tick() > 3000.0
        assert "snapshot" not in told
        worker.metrics.route("r").exchange("GET", 200, 0.01)
        assert tick() < 3000.0
        assert "snapshot" in told
        await worker.supervisor.call("hello")  # what was told before has come
        ((_, snapshot),) = gateway.one.totals.gather()["living"]
        assert snapshot["http_requests_total"][3]["gateway\x1fGET\x1fr\x1f200"] == 1


async def test_one_trip_of_a_circuit_counts_once_and_is_in_the_history_of_all() -> None:
    async with gateway_of(3) as gateway:
        for worker in gateway.workers:
            worker.history.record("u", "closed", "open", "5 consecutive failures")
            worker.metrics.circuit_transition("u", "open")
        await gateway.workers[0].supervisor.call("hello")
        fresh = await gateway.start(0)
        await gateway.all_know(lambda worker: len(worker.history.of("u")) == 1)
        assert fresh.history.of("u")[0].cause == "5 consecutive failures"
        for worker in gateway.workers:
            found = await worker.samples()
            assert found["circuit_breaker_transitions_total[('to', 'open'), ('upstream', 'u')]"] == 1


async def test_the_view_of_each_worker_is_of_all() -> None:
    async with gateway_of(2) as gateway:
        gateway.workers[1].own.endpoints = [EndpointView("u", "h:1", False, False, 4)]
        await gateway.all_know(lambda worker: worker.view.in_flight == 2)
        gateway.workers[1].one._tick()
        await gateway.all_know(lambda worker: not next(iter(worker.view.endpoints)).healthy)
        for worker in gateway.workers:
            view = worker.view
            assert (view.connections, view.upstream_connections, view.max_in_flight) == (20, 4, 200)
            assert list(view.tunnels) == [("chat", 4)]
            (endpoint,) = view.endpoints
            assert (endpoint.in_flight, endpoint.available) == (5, False)
            (circuit,) = view.circuits
            assert (circuit.calls, circuit.failed_calls) == (10, 2)
            assert view.started_at == gateway.board.as_data()["since"]
            assert not view.starting
            assert not view.draining


async def test_the_caps_of_all_are_known_as_soon_as_they_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a worker says once a second must not be what a look right after a reload waits for."""
    monkeypatch.setattr("gateway.worker.one_service.INTERVAL", 3600.0)
    async with gateway_of(2) as gateway:
        old = list(gateway.workers)
        await gateway.all_know(lambda worker: worker.view.max_in_flight == 200)
        for slot in range(2):
            await gateway.start(slot)
        for worker in old:
            gateway.one.state(worker.supervisor.slot, worker.pid, "draining")
        await gateway.all_know(lambda worker: worker.host.is_replaced == (worker in old))
        assert [worker.view.max_in_flight for worker in gateway.workers] == [200] * 4


async def test_health_says_that_a_worker_is_missing_or_keeps_dying() -> None:
    async with gateway_of(2) as gateway:
        await gateway.all_know(lambda worker: worker.host.others_ready)
        one = gateway.workers[0]
        assert health.report(one.view, 0.0)["status"] == "healthy"
        for _ in range(3):
            await gateway.end(gateway.workers[1], "died", in_order=False)
            await gateway.all_know(lambda worker: len(worker.host.view().workers) == 1)
            reasons: Any = health.report(one.view, 0.0)["reasons"]
            assert reasons[0] == "1 of 2 workers are ready. The log says why one ended."
            await gateway.start(1)
        await gateway.all_know(lambda worker: worker.host.others_ready)
        report = health.report(one.view, 0.0)
        assert report["status"] == "degraded"
        assert report["reasons"] == ["Worker 1 keeps dying: 3 times within five minutes. The log says how."]
        assert "pid" not in str(report)


async def test_a_reload_that_failed_is_told() -> None:
    async with gateway_of(1) as gateway:
        (one,) = gateway.workers
        gateway.board.reloaded([])
        gateway.board.reloaded(["PORT=x"])
        gateway.one.changed()
        await gateway.all_know(lambda worker: worker.host.view().reload is not None)
        found = await one.samples()
        assert found["gateway_config_last_reload_successful[]"] == 0
        assert found["gateway_config_last_reload_success_timestamp_seconds[]"] > 1_600_000_000
        assert found["gateway_config_hash[]"] == 42
        assert found["gateway_workers[('state', 'ready')]"] == 1


async def test_one_worker_judges_and_all_show_its_alerts() -> None:
    async with gateway_of(2) as gateway:
        await gateway.all_know(lambda worker: worker.host.others_ready)
        leader, other = gateway.workers
        assert (leader.host.leads, other.host.leads) == (True, False)
        leader.alerts.check(AlertFacts(circuits=[CircuitFact("u", "open", "", 1.0)]))
        leader.one.share_alerts(leader.alerts.data())
        await gateway.all_know(lambda worker: len(worker.alerts.active()) == 1)
        fresh = await gateway.start(2)
        assert [each.id for each in fresh.alerts.active()] == [each.id for each in leader.alerts.active()]
        await gateway.end(leader, "died", in_order=False)
        await gateway.all_know(lambda worker: worker.host.leads == (worker is other))
        # What one has raised, the next one resolves.
        other.alerts.settings = AlertSettings(resolve_after=0.0)
        other.alerts.check(AlertFacts())
        other.one.share_alerts(other.alerts.data())
        await gateway.all_know(lambda worker: not worker.alerts.active() and len(worker.alerts.all()) == 1)
        fresh.alerts.cleanup()
        fresh.one.cleanup_alerts()
        await gateway.all_know(lambda worker: not worker.alerts.all())


async def test_the_supervisor_goes_on_with_what_it_knew_before() -> None:
    async with gateway_of(1) as gateway:
        (one,) = gateway.workers
        one.metrics.route("r").exchange("GET", 200, 0.01)
        one.history.record("u", "closed", "open", "")
        await one.supervisor.call("hello")
        await gateway.end(one, "upgrade", in_order=True)
        after = Gateway()
        after.one.restore(gateway.one.dump())
        fresh = await after.start(0)
        assert (await fresh.samples())[REQUESTS] == 1
        assert len(fresh.history.of("u")) == 1
        assert after.board.as_data()["restarts"]["upgrade"] == 1
        stop(fresh)

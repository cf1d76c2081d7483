"""`/api/resilience/workers`: the processes that serve, as each of them was about a second ago.

Pids are shown: they say nothing to anybody who is not on the machine, and who is there sees them anyway. `/health`,
which stays on the listener of the data plane, has none.
"""

from typing import Any

from gateway.control.api.operation import Call, Operation, get
from gateway.control.models.shapes import Nothing
from gateway.control.models.workers import LastReload, Worker, Workers
from gateway.control.parts import ControlledGateway
from gateway.control.ports.gateway import HostView, WorkerView
from gateway.telemetry.log.render import rfc3339

PATH = "/api/resilience/workers"


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operation that lists the workers."""

    async def workers(_: Call[Nothing, Nothing]) -> Workers:
        """Every worker."""
        host = gateway.view.host
        if host is None:
            # This process is the gateway.
            return Workers(
                answered_by=None, wanted=1, ready=1, restarts={}, config_hash=None, last_reload=None, workers=[]
            )
        return Workers(
            answered_by=host.worker,
            wanted=host.wanted,
            ready=sum(each.state == "ready" for each in host.workers),
            restarts=dict(host.restarts),
            config_hash=host.config_hash or None,
            last_reload=_reload(host),
            workers=[_worker(each) for each in host.workers],
        )

    return [get(PATH, "listWorkers", "The worker processes", Workers, workers)]


def _reload(host: HostView) -> LastReload | None:
    reload = host.reload
    if reload is None:
        return None
    return LastReload(successful=reload.successful, time=rfc3339(reload.at), problems=len(reload.problems))


def _worker(worker: WorkerView) -> Worker:
    return Worker(
        worker=worker.slot,
        pid=worker.pid,
        state=worker.state,
        start_time=rfc3339(worker.started_at),
        connections=worker.connections,
        in_flight=worker.in_flight,
        requests_per_second=max(0.0, worker.requests_per_second),
        event_loop_lag=max(0.0, worker.loop_lag),
        resident_bytes=worker.rss,
    )

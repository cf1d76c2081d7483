"""From the configuration to sagas: what the gates of routes need, the runner, cleaning, and what is counted."""

import logging
import random
from collections.abc import Iterator
from functools import partial

from gateway.config.model import GatewayConfig
from gateway.journal import sagas
from gateway.journal.cleaning import Cleaner
from gateway.journal.depth import Depth
from gateway.journal.port import Journal
from gateway.journal.saga_moves import Known, Move
from gateway.journal.sagas import NewRun, OpenRuns, Taken
from gateway.proxy.errands.own_requests import OwnRequests
from gateway.proxy.routes.parts import SagaParts
from gateway.proxy.routes.topology import Topology
from gateway.proxy.runtime import Runtime
from gateway.saga.workflow import Workflow
from gateway.saga_runner.job import first_move
from gateway.saga_runner.runner import SagaRunner
from gateway.saga_runner.tenure import LEASE
from gateway.saga_runner.waiters import Told, Waiters
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.views.sagas import LiveSagas

log = logging.getLogger("gateway.saga")

_CLEANING: float = 60.0


class SagaRuns:
    """What the gates know of whoever carries runs out (`gateway.proxy.gates.workflow.Runs`)."""

    def __init__(self, runner: SagaRunner, waiters: Waiters) -> None:
        self._runner = runner
        self._waiters = waiters

    def first(self, workflow: Workflow, run: NewRun) -> tuple[Move, Taken | None, float]:
        """The first transition; this process goes on with the run where it has room."""
        lease = self._runner.lease_for(run.id)
        _, move = first_move(workflow, begins=lease is not None)
        if lease is None:
            return move, None, LEASE
        known = Known(len(move.events), run.deadline)
        return move, Taken(run, "running", move.steps, lease, begun=True, known=known), LEASE

    def carry_on(self, taken: Taken, began: float) -> None:
        """Go on with a run that is in the journal now, held since `began`."""
        self._runner.carry_on(taken, began)

    def not_kept(self) -> None:
        """A run that this process was to go on with is not in the journal."""
        self._runner.not_kept()

    def wait(self, run_id: str, seconds: float, told: Told) -> None:
        """Call `told` once, with the run when it ends in time."""
        self._waiters.wait(run_id, seconds, told)


class Sagas:
    """What routes with a workflow share, and what runs beside the requests for it. `serve` comes before `start`. Where
    no route has a workflow no run is carried out, but those that are in the journal are seen."""

    def __init__(self, config: GatewayConfig, journal: Journal, metrics: Metrics) -> None:
        limits = config.sagas
        self._routed = frozenset(route.workflow.name for route in config.routes if route.workflow is not None)
        self._orphans: frozenset[str] = frozenset()
        self.depth = depth = Depth(journal, sagas.open_runs, OpenRuns(), limits.max_open, self._counted)
        self.runner = SagaRunner(journal, config.workflows.values(), limits.concurrency, random.Random())
        self.waiters = Waiters(journal)
        self.parts = SagaParts(journal, depth, SagaRuns(self.runner, self.waiters))
        self.view = LiveSagas(journal, limits, self.runner.runs, self._routed, frozenset(config.upstreams))
        self._cleaner = Cleaner(journal, (partial(sagas.delete_ended, limits.retention),), _CLEANING)
        self._names = tuple(config.workflows)
        self._register(metrics)

    def serve(self, topology: Topology, runtime: Runtime, metrics: Metrics) -> None:
        """Carry out runs with the upstreams of this topology."""
        self.runner.requests = OwnRequests(runtime, topology.upstreams, topology.chains)
        gates = [(route.name, route.workflow) for route in topology.routes if route.workflow is not None]
        metrics.counter(
            "saga_requests_total",
            "Requests on routes with a workflow, by what became of them.",
            ("route", "outcome"),
            lambda: (((name, outcome), count) for name, gate in gates for outcome, count in gate.counts.items()),
        )

    def start(self) -> None:
        """Begin to count, to carry out and to clean; the journal is open."""
        self.depth.start()
        if self._routed:
            self.waiters.start()
            self.runner.consumer.start()
        self._cleaner.start()

    async def pause(self) -> None:
        """Begin no more steps; those that are under way end. Clients that wait are told where to look. Idempotent."""
        self.waiters.release()
        await self.runner.consumer.pause()

    @property
    def under_way(self) -> int:
        """Runs that this process holds."""
        return self.runner.consumer.under_way

    async def stop(self) -> None:
        """End all of it. The journal is still open."""
        await self.waiters.stop()
        await self.runner.consumer.stop()
        await self._cleaner.stop()
        await self.depth.stop()

    def _register(self, metrics: Metrics) -> None:
        runner, depth = self.runner, self.depth
        metrics.counter(
            "saga_runs_total",
            "Runs of workflows that have ended or become stuck, by outcome.",
            ("workflow", "outcome"),
            runner.runs.items,
        )
        metrics.counter(
            "saga_step_attempts_total",
            "Attempts of steps, by what came of them.",
            ("workflow", "step", "outcome"),
            runner.attempts.items,
        )
        metrics.counter(
            "saga_compensations_total",
            "Attempts to compensate a step, by what came of them.",
            ("workflow", "step", "outcome"),
            runner.compensations.items,
        )
        metrics.counter(
            "saga_late_total",
            "Results of steps that somebody else's lease had made void.",
            (),
            lambda: (((), runner.late),),
        )
        metrics.gauge(
            "saga_runs",
            "Runs in the journal that have not ended, as of the last count.",
            ("workflow", "state"),
            self._open,
            "max",
        )
        metrics.gauge(
            "saga_orphaned_runs",
            "Runs that have not ended, of workflows that no route of this gateway has.",
            ("workflow",),
            self._orphaned,
            "max",
        )
        metrics.gauge(
            "saga_oldest_pending_seconds",
            "Age of the oldest run that is neither ended nor stuck.",
            (),
            lambda: (((), depth.last.oldest),),
            "max",
        )

    def _open(self) -> Iterator[tuple[tuple[str, str], float]]:
        found = {(each.workflow, each.state): float(each.runs) for each in self.depth.last.counts}
        for name in self._names:
            for state in ("running", "compensating", "stuck"):
                found.setdefault((name, state), 0.0)
        yield from found.items()

    def _orphaned(self) -> Iterator[tuple[tuple[str], float]]:
        found = {(name,): 0.0 for name in self._routed}
        for each in self.depth.last.counts:
            if each.workflow not in self._routed:
                found[each.workflow,] = found.get((each.workflow,), 0.0) + each.runs
        yield from found.items()

    def _counted(self, found: OpenRuns) -> None:
        """Log a workflow without a route once, until no run of it is left."""
        orphans = frozenset(each.workflow for each in found.counts) - self._routed
        for name in sorted(orphans - self._orphans):
            log.warning(
                "SagaOrchestrator: no route has the workflow %s any more, and runs of it have not ended",
                name,
                extra={"event": "saga_orphaned", "workflow": name},
            )
        self._orphans = orphans


def build_sagas(config: GatewayConfig, journal: Journal | None, metrics: Metrics) -> Sagas | None:
    """None without a journal."""
    return None if journal is None else Sagas(config, journal, metrics)

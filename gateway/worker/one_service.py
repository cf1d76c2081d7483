"""A worker's part in what makes several workers one service to those who look; `gateway.supervisor.one_service` has the
other part and the list of operations.

Once a second the worker says how it is (`beat`). What it has counted (`snapshot`) it tells `BUSY_INTERVAL` after
requests have been counted, so that one that is killed loses little. A snapshot costs 0.05 ms at one route and 1 ms at
100, and at most `SHARE` of the time is spent on it: so a killed worker loses what it counted since then, or within the
last 250 times that a snapshot takes.

A scrape sends the supervisor this worker's snapshot and gets those of the others. While the supervisor does not answer,
those that it gave last are used: without them, counters would fall.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from gateway.control.history import CircuitHistory, Transition
from gateway.control.ports.callers import CallersView
from gateway.control.ports.gateway import GatewayView
from gateway.telemetry.busiest import Busiest
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.process_stats import resident_bytes
from gateway.telemetry.metrics.snapshot import Parts, Snapshot
from gateway.worker.host import Host
from gateway.worker.loop_lag import LoopLag
from gateway.worker.supervisor import Supervisor
from gateway.worker.whole_busy import told_of_busy
from gateway.worker.whole_callers import told_of_tenants
from gateway.worker.whole_view import told_of

log = logging.getLogger("gateway")

INTERVAL: Final = 1.0
IDLE_INTERVAL: Final = 0.2
BUSY_INTERVAL: Final = 0.02
SHARE: Final = 0.004
# The supervisor itself waits for half a second for the other workers.
PATIENCE: Final = 1.0


class SharedAlerts(Protocol):
    """The alerts (`gateway.telemetry.alerts.alerts.Alerts`), which one worker judges and all of them show."""

    def adopt(self, data: Any) -> None:
        """Show these, which another worker has found."""
        ...

    def cleanup(self) -> int:
        """Forget those that are over."""
        ...


class OneService:
    """`own` is the view of this process alone. `start` and `stop` belong to the running loop."""

    def __init__(
        self,
        supervisor: Supervisor,
        host: Host,
        metrics: Metrics,
        own: GatewayView,
        history: CircuitHistory,
        busiest: Busiest | None = None,
    ) -> None:
        self._busiest = busiest
        self.host = host
        self.lag = LoopLag()
        self.alerts: SharedAlerts | None = None
        """To be set before `start`."""
        self.callers: CallersView | None = None
        """This process's own view of tenants. To be set before `start`, where a route asks who sends a request."""
        self._supervisor = supervisor
        self._metrics = metrics
        self._own = own
        self._history = history
        history.on_record = self._transition
        self._gathered: dict[str, Any] = {"living": [], "dead": {}}
        self._timer: asyncio.TimerHandle | None = None
        self._requests = 0
        self._beat_at = 0.0
        # The requests that the last snapshot has, when it was told, and when the next one may be.
        self._told = -1
        self._told_at = 0.0
        self._snapshot_due = 0.0

    async def start(self) -> None:
        """Get to know what all the others know, and begin to tell. Call it when everything is built."""
        self.lag.start()
        self._requests, self._beat_at = self._metrics.requests, time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                known = await self._supervisor.call("hello")
        except Exception:
            log.exception("the supervisor did not say what it knows")
        else:
            self.serve("host", known["host"], _ignored)
            self.serve("history", known["history"], _ignored)
            self.serve("alerts", known["alerts"], _ignored)
        await self.parts()
        # Before it serves, so that nobody adds up the caps without this worker's share.
        self._supervisor.tell("beat", self.beat(time.monotonic()))
        self._tick()

    def stop(self) -> None:
        """Tell for the last time what was counted, and end. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.lag.stop()
            self._supervisor.tell("snapshot", self._metrics.snapshot())

    def serve(self, operation: str, body: Any, reply: Callable[[Any], None]) -> bool:
        """Serve what the supervisor asks or tells. Returns whether the operation is one of these."""
        if operation == "snapshot":
            reply(self._metrics.snapshot())
        elif operation == "host":
            self.host.told(body)
        elif operation == "history":
            for upstream, transitions in body.items():
                self._history.replace(upstream, [Transition(*each) for each in transitions])
        elif operation == "alerts":
            if self.alerts is not None and body is not None:
                self.alerts.adopt(body)
        elif operation == "cleanup_alerts":
            if self.alerts is not None:
                self.alerts.cleanup()
        else:
            return False
        return True

    async def parts(self) -> Parts:
        """What all workers have counted until now, and the dead."""
        own = self._metrics.snapshot()
        try:
            async with asyncio.timeout(PATIENCE):
                self._gathered = await self._supervisor.call("metrics", own)
        except Exception as error:  # noqa: BLE001 - whatever it is: the last ones are used
            log.warning("the other workers' figures are not those of now: %s", error or type(error).__name__)
        return _parts(self._gathered, own, self.host.slot)

    async def past(self) -> list[tuple[float, dict[str, tuple[int, int]]]]:
        """The last hour of every route, step by step (`gateway.supervisor.hour`). Nothing while the supervisor does not
        answer."""
        try:
            async with asyncio.timeout(PATIENCE):
                steps = await self._supervisor.call("hour")
        except Exception as error:  # noqa: BLE001 - whatever it is: there is nothing to show
            log.warning("the last hour cannot be shown: %s", error or type(error).__name__)
            return []
        return [(at, {route: (counts[0], counts[1]) for route, counts in routes.items()}) for at, routes in steps]

    def share_alerts(self, data: Any) -> None:
        """What this worker, which leads, has found."""
        self._supervisor.tell("alerts", data)

    def cleanup_alerts(self) -> None:
        """The other workers are to forget the alerts that are over, too."""
        self._supervisor.tell("cleanup_alerts")

    def beat(self, now: float) -> Mapping[str, object]:
        """How this worker is; `now` of the monotonic clock."""
        requests, before = self._metrics.requests, self._requests
        elapsed, self._beat_at, self._requests = now - self._beat_at, now, requests
        return {
            **told_of(self._own),
            **({} if self._busiest is None else told_of_busy(self._busiest)),
            **({} if self.callers is None else told_of_tenants(self.callers)),
            "requests_per_second": round((requests - before) / elapsed, 1) if elapsed > 0 else 0.0,
            "loop_lag": round(self.lag.seconds, 6),
            "rss": resident_bytes(),
        }

    def _tick(self) -> None:
        pause = IDLE_INTERVAL
        try:
            pause = self._tell(time.monotonic())
        finally:
            # A worker that told nothing any more would be taken for one that stands still, and killed.
            self._timer = asyncio.get_running_loop().call_later(pause, self._tick)

    def _tell(self, now: float) -> float:
        """Give the signs of life that are due. Returns the seconds until the next look."""
        if now >= self._beat_at + INTERVAL:
            self._supervisor.tell("beat", self.beat(now))
        requests = self._metrics.requests
        busy = requests != self._told
        if now >= self._snapshot_due and (busy or now >= self._told_at + IDLE_INTERVAL):
            # Of the processor's time: on a busy machine a snapshot may take long, which is no reason to tell less.
            began = time.thread_time()
            self._supervisor.tell("snapshot", self._metrics.snapshot())
            self._told, self._told_at = requests, now
            self._snapshot_due = now + (time.thread_time() - began) / SHARE
        return max(BUSY_INTERVAL, min(self._snapshot_due - now, IDLE_INTERVAL)) if busy else IDLE_INTERVAL

    def _transition(self, upstream: str, transition: Transition) -> None:
        self._supervisor.tell("transition", [upstream, list(transition)])


def _parts(gathered: Mapping[str, Any], own: Snapshot, slot: int) -> Parts:
    living = [(each, own if snapshot is None else snapshot) for each, snapshot in gathered["living"]]
    if not any(snapshot is own for _, snapshot in living):
        living.append((slot, own))
    return Parts(own, living, gathered["dead"])


def _ignored(_: Any) -> None:
    """What is only told has no answer."""

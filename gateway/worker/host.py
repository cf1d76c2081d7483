"""What this worker was told about all workers of its host, about a second ago at most (`gateway.supervisor.board`)."""

import os
from collections.abc import Iterator
from typing import Any

from gateway.control.ports.gateway import HostView, ReloadView, WorkerView


class Host:
    """`slot` is this worker's. Before anything was told, this worker is alone."""

    def __init__(self, slot: int, pid: int | None = None) -> None:
        self.slot = slot
        self.pid = os.getpid() if pid is None else pid
        self._told: dict[str, Any] = {}

    def told(self, state: dict[str, Any]) -> None:
        """The supervisor has spoken."""
        self._told = state

    @property
    def others(self) -> Iterator[dict[str, Any]]:
        """What the other workers said of themselves."""
        return (each for each in self._told.get("workers", ()) if each["pid"] != self.pid)

    def sum(self, name: str) -> float:
        """A number of the others, added up."""
        return sum(each.get(name) or 0 for each in self.others)

    @property
    def since(self) -> float | None:
        """When the service began, in seconds since the epoch."""
        since: float | None = self._told.get("since")
        return since

    @property
    def is_stopping(self) -> bool:
        """Whether the whole gateway stops."""
        return bool(self._told.get("stopping", False))

    @property
    def is_replaced(self) -> bool:
        """Whether this worker was told to leave, and another one has its socket."""
        return any(each["pid"] == self.pid and each["state"] == "draining" for each in self._told.get("workers", ()))

    @property
    def others_ready(self) -> bool:
        """Whether another worker takes connections."""
        return any(each["state"] == "ready" for each in self.others)

    @property
    def leads(self) -> bool:
        """Whether this worker speaks for all where one has to: of the ready ones, or of all while none is ready, it has
        the lowest slot."""
        workers = self._told.get("workers", ())
        chosen = [each for each in workers if each["state"] == "ready"] or workers
        places = [(each["slot"], each["pid"]) for each in chosen]
        return not places or min(places) == (self.slot, self.pid)

    def view(self) -> HostView:
        """All of it, for the control plane."""
        told = self._told
        reload = told.get("reload")
        return HostView(
            worker=self.slot,
            wanted=told.get("wanted", 1),
            workers=tuple(_worker(each) for each in sorted(told.get("workers", ()), key=_by_slot)),
            restarts=dict(told.get("restarts", {})),
            recent=tuple((ago, slot, cause) for ago, slot, cause in told.get("recent", ())),
            reload=None
            if reload is None
            else ReloadView(
                reload["successful"], reload["at"], reload.get("succeeded_at"), tuple(reload.get("problems", ()))
            ),
            config_hash=told.get("config_hash", ""),
        )


def _by_slot(worker: dict[str, Any]) -> tuple[int, float]:
    return worker["slot"], worker["started_at"]


def _worker(told: dict[str, Any]) -> WorkerView:
    return WorkerView(
        slot=told["slot"],
        pid=told["pid"],
        state=told["state"],
        started_at=told["started_at"],
        connections=told.get("connections", 0),
        in_flight=told.get("in_flight", 0),
        requests_per_second=told.get("requests_per_second", 0.0),
        loop_lag=told.get("loop_lag", 0.0),
        rss=told.get("rss"),
    )

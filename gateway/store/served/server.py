"""The store port served from memory, to any number of replicas, each over a channel of its own.

Every call is served at once, in the order in which it came; nothing waits for anything. So each operation is atomic, as
a script is in Redis. `encoding.py` says what is sent.
"""

import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final, TypeVar

from gateway.ipc.channel import Reply, Serve
from gateway.policy.breaker import CircuitState
from gateway.policy.outcome import Outcome
from gateway.store.faults import fault_of, plain
from gateway.store.memory import dump
from gateway.store.memory.circuits import MemoryCircuits
from gateway.store.memory.figures import FigureTable, MemoryFigures
from gateway.store.memory.store import SharedMemory
from gateway.store.port import EndpointOut, FigureDelta, ProbeLease
from gateway.store.served import encoding

T = TypeVar("T")


class StoreServer:
    """What all replicas of a host share. `epoch` differs for each store that begins empty (see `SyncAnswer`)."""

    def __init__(self, shared: SharedMemory | None = None, figures: FigureTable | None = None) -> None:
        self.shared = shared or SharedMemory(epoch=time.time_ns() // 1000)
        self.figures = figures or FigureTable()

    def dump(self) -> dict[str, Any]:
        """Everything as plain data, for another process."""
        return dump.dump(self.shared, self.figures)

    def restore(self, data: Any) -> None:
        """Go on with what was dumped. It comes before `serve_for`. Raises `Unusable`, and then changes nothing."""
        self.shared, self.figures = dump.restore(data)

    def serve_for(self, replica: str) -> Serve:
        """What serves the calls of the replica of this name."""
        operations: Final = _Replica(self.shared, self.figures, replica).operations

        def serve(operation: str, body: Any, reply: Reply) -> None:
            reply(operations[operation](body))

        return serve


class _Replica:
    """The operations as one replica calls them."""

    def __init__(self, shared: SharedMemory, figures: FigureTable, replica: str) -> None:
        self._shared = shared
        self._circuits = MemoryCircuits(shared.circuits, replica)
        self._figures = MemoryFigures(figures, replica)
        self._replica = replica
        self.operations: Mapping[str, Callable[[Any], Any]] = {
            "take": self._take,
            "sync": self._sync,
            "lease_probe": self._lease_probe,
            "settle_probe": self._settle_probe,
            "force": self._force,
            "reset": lambda body: _at_once(self._circuits.reset(body)),
            "take_out": lambda body: shared.take_out(EndpointOut(*body)),
            "bring_back": lambda body: shared.bring_back(*body),
            "endpoints_out": lambda _: [out[:] for out in shared.endpoints.listed()],
            "add_usage": lambda body: shared.usage.add(replica, *body),
            "add_fault": self._add_fault,
            "renew_faults": lambda body: shared.faults.renew(*body),
            "drop_faults": shared.drop_faults,
            "faults": lambda _: [[plain(fault), *times] for fault, *times in shared.faults.listed()],
            "leave": lambda _: _at_once(self._circuits.leave()),
            "add_figures": self._add_figures,
            "sum_figures": lambda body: [each[:] for each in _at_once(self._figures.sum_figures(*body))],
            "reset_figures": lambda body: _at_once(self._figures.reset_figures(body)),
            "add_records": self._add_records,
            "records": lambda body: [each.decode() for each in _at_once(self._figures.records(body))],
        }

    def _take(self, body: Any) -> Any:
        return encoding.grant_rows(self._shared.buckets.take(self._replica, encoding.asks_of(body)))

    def _sync(self, body: Any) -> Any:
        reports, given_back = body
        answer = _at_once(self._circuits.sync([encoding.report_of(row) for row in reports]))
        for upstream, token in given_back:
            self._circuits.give_back(upstream, self._own(token))
        snapshots = [encoding.snapshot_row(each) for each in answer.circuits]
        return answer.replicas, answer.version, answer.epoch, snapshots

    def _lease_probe(self, body: Any) -> Any:
        upstream, settings, lease_time, token = body
        answer = self._circuits.lease_named(self._own(token), upstream, encoding.settings_of(settings), lease_time)
        return [answer.generation] if isinstance(answer, ProbeLease) else encoding.snapshot_row(answer)

    def _settle_probe(self, body: Any) -> Any:
        upstream, generation, token, settings, outcome, reached = body
        lease = ProbeLease(upstream, generation, self._own(token))
        settled = self._circuits.settle_probe(lease, encoding.settings_of(settings), Outcome(outcome), reached)
        return encoding.snapshot_row(_at_once(settled))

    def _own(self, token: str) -> str:
        return f"{self._replica}/{token}"

    def _force(self, body: Any) -> Any:
        upstream, state, duration, cause = body
        forced = self._circuits.force(upstream, None if state is None else CircuitState(state), duration, cause)
        return encoding.snapshot_row(_at_once(forced))

    def _add_figures(self, body: Any) -> Any:
        deltas = [FigureDelta(service, sequence, cells, last) for service, sequence, cells, last in body]
        return _at_once(self._figures.add_figures(deltas))

    def _add_fault(self, body: Any) -> str:
        data, duration, lease = body
        fault = fault_of(data)
        if fault is None:
            raise ValueError("not a fault")
        return self._shared.add_fault(fault, duration, lease)

    def _add_records(self, body: Any) -> None:
        records, keep = body
        _at_once(self._figures.add_records([each.encode() for each in records], keep))


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits: those of the store in memory are such."""
    try:
        work.send(None)
    except StopIteration as done:
        found: T = done.value
        return found
    work.close()
    raise RuntimeError("the store in memory has waited")

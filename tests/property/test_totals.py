"""A counter of several workers never goes down, whatever starts, speaks and ends. It is what they counted."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.supervisor.totals import Totals
from gateway.telemetry.metrics.snapshot import SERIES, Parts, Snapshot

ADDED = "requests_total"
BY_WORKER = "cpu_seconds_total"
TOOK = "took_seconds"
SEEN = "transitions_total"


class Worker:
    """Counts, and shows what it has counted."""

    def __init__(self, slot: int, pid: int) -> None:
        self.slot = slot
        self.pid = pid
        self.count = 0
        self.seen = 0

    def snapshot(self) -> Snapshot:
        return {
            ADDED: ["counter", "sum", ["route"], {"a": self.count}],
            BY_WORKER: ["counter", "worker", [], {"": self.count}],
            TOOK: ["histogram", "sum", [], {"": [self.count * 0.5, self.count, 0]}, [1.0]],
            SEEN: ["counter", "seen", ["upstream"], {"u": self.seen}],
            "gauge": ["gauge", "sum", [], {"": 1}],
        }


class Host:
    """The supervisor's figures, and what a scrape of any worker says."""

    def __init__(self) -> None:
        self.totals = Totals()
        self.workers: list[Worker] = []
        self.before: dict[tuple[str, str], float] = {}
        self.counted = 0
        self.pid = 0

    def start(self, slot: int) -> None:
        self.pid += 1
        self.workers.append(Worker(slot, self.pid))
        self.totals.started(slot, self.pid)

    def put(self, worker: Worker) -> None:
        self.totals.put(worker.slot, worker.pid, worker.snapshot())

    def end(self, worker: Worker, *, in_order: bool) -> None:
        if in_order:
            self.put(worker)
        self.workers.remove(worker)
        self.totals.ended(worker.slot, worker.pid)
        self.totals.put(worker.slot, worker.pid, worker.snapshot())  # too late, and ignored
        self.totals.ended(worker.slot, worker.pid)

    def scrape(self, worker: Worker) -> dict[tuple[str, str], Any]:
        self.put(worker)
        own = worker.snapshot()
        gathered = self.totals.gather((worker.slot, worker.pid))
        living = [(slot, own if snapshot is None else snapshot) for slot, snapshot in gathered["living"]]
        parts = Parts(own, living, gathered["dead"])
        found: dict[tuple[str, str], Any] = {}
        for name in (ADDED, BY_WORKER, SEEN):
            found |= {(name, key): value for key, value in parts.combined(name)[SERIES].items()}
        ((_, histogram),) = parts.combined(TOOK)[SERIES].items()
        found |= {(TOOK, str(index)): value for index, value in enumerate(histogram)}
        return found

    def check(self, worker: Worker) -> None:
        found = self.scrape(worker)
        for series, value in self.before.items():
            assert found[series] >= value, series
        self.before = found


steps = st.lists(
    st.one_of(
        st.tuples(st.just("start"), st.integers(0, 2)),
        st.tuples(st.sampled_from(["put", "end", "kill", "scrape", "count", "trip", "upgrade"]), st.integers(0, 5)),
    ),
    max_size=60,
)


@given(steps)
def test_no_counter_goes_down(actions: list[tuple[str, int]]) -> None:
    host = Host()
    host.start(0)
    for action, number in actions:
        if action == "start" or not host.workers:
            host.start(number % 3)
            continue
        worker = host.workers[number % len(host.workers)]
        if action == "put":
            host.put(worker)
        elif action in {"end", "kill"}:
            host.end(worker, in_order=action == "end")
        elif action == "count":
            worker.count += number
        elif action == "trip":
            for each in host.workers[: number + 1]:
                each.seen += 1
        elif action == "upgrade":
            host.totals = Totals.restored(host.totals.dump())
        else:
            host.check(worker)


@given(steps)
def test_what_was_counted_by_workers_that_end_in_order_is_all_there(actions: list[tuple[str, int]]) -> None:
    host = Host()
    host.start(0)
    for action, number in actions:
        if action == "start" or not host.workers:
            host.start(number % 3)
        elif action in {"end", "kill"}:
            host.end(host.workers[number % len(host.workers)], in_order=True)
        elif action == "count":
            host.workers[number % len(host.workers)].count += number
            host.counted += number
    host.start(0)
    for worker in host.workers:
        host.put(worker)
    found = host.scrape(host.workers[0])
    assert found[ADDED, "a"] == host.counted
    assert found[TOOK, "1"] == host.counted
    assert sum(value for (name, _), value in found.items() if name == BY_WORKER) == host.counted


@given(st.integers(1, 4), st.lists(st.sampled_from(["trip", "replace"]), max_size=30))
def test_what_every_worker_notices_counts_once(number: int, actions: list[str]) -> None:
    host = Host()
    for slot in range(number):
        host.start(slot)
    trips = 0
    for action in actions:
        if action == "trip":
            trips += 1
            for worker in host.workers:
                worker.seen += 1
                host.put(worker)
        else:
            # The new one and the old one are there together for a while.
            oldest = host.workers[0]
            host.start(oldest.slot)
            host.end(oldest, in_order=True)
    assert host.scrape(host.workers[0])[SEEN, "u"] == trips

"""How workers are shown: the API, and `gateway status`."""

from typing import Any

import pytest

from gateway.control.api import workers as api
from gateway.control.ports.gateway import HostView, ReloadView, WorkerView
from gateway.operator import output, status
from gateway.supervisor.board import RECENT_SECONDS, Board
from gateway.supervisor.timeline import KEPT, Timeline
from gateway.worker.host import Host
from gateway.worker.loop_lag import SECONDS, LoopLag


class Facts:
    def __init__(self, host: HostView | None) -> None:
        self.view = self
        self.host = host


async def answered(host: HostView | None) -> dict[str, Any]:
    (operation,) = api.operations(Facts(host))  # type: ignore[arg-type] # it needs the view alone
    answer: Any = await operation.run(None)  # type: ignore[arg-type] # and nothing of the call
    found: dict[str, Any] = answer.model_dump(by_alias=True)
    return found


async def test_the_api_tells_of_each_worker() -> None:
    one = WorkerView(0, 71, "ready", 1_700_000_000.0, 12, 3, 45.5, 0.0012, 62_914_560)
    old = WorkerView(1, 72, "draining", 1_700_000_000.0, 1, 0, 0.0, 0.0, None)
    reload = ReloadView(successful=False, at=1_700_000_060.0, succeeded_at=None, problems=("PORT=x: a port",))
    found = await answered(HostView(1, 2, (one, old), {"died": 2}, (), reload, "2a"))
    assert found["workers"][0] == {
        "worker": 0, "pid": 71, "state": "ready", "startTime": "2023-11-14T22:13:20.000Z", "connections": 12,
        "inFlight": 3, "requestsPerSecond": 45.5, "eventLoopLag": 0.0012, "residentBytes": 62_914_560,
    }  # fmt: skip
    assert found["lastReload"] == {"successful": False, "time": "2023-11-14T22:14:20.000Z", "problems": 1}
    del found["workers"], found["lastReload"]
    assert found == {"answeredBy": 1, "wanted": 2, "ready": 1, "restarts": {"died": 2}, "configHash": "2a"}


async def test_a_process_alone_has_no_workers() -> None:
    found = await answered(None)
    assert (found["wanted"], found["ready"], found["workers"], found["answeredBy"]) == (1, 1, [], None)


class Client:
    """Stands in for a gateway."""

    def get(self, path: str) -> Any:
        worker = {
            "worker": 0, "pid": 71, "state": "ready", "startTime": "2020-01-01T00:00:00.000Z", "connections": 12,
            "inFlight": 3, "requestsPerSecond": 45.5, "eventLoopLag": 0.0012, "residentBytes": 62_914_560,
        }  # fmt: skip
        return {
            "/api/resilience/health": {"status": "Healthy", "reasons": [], "services": []},
            "/health": {
                "status": "healthy", "service": "gateway", "version": "1", "reasons": [],
                "checks": {"redis": {}, "capacity": {"in_flight": 0, "max_in_flight": 9}},
            },
            "/api/resilience/endpoints": {"endpoints": []},
            "/api/resilience/faults": {"enabled": False, "faults": []},
            "/api/resilience/workers": {"workers": [worker, {**worker, "worker": 1, "residentBytes": None}]},
        }[path]  # fmt: skip


def test_status_has_a_table_of_the_workers(capsys: pytest.CaptureFixture[str]) -> None:
    class Arguments:
        json = False

    assert status.run(Client(), Arguments()) == 0  # type: ignore[arg-type] # as much of them as it needs
    first, blank, head, one, two = capsys.readouterr().out.splitlines()
    assert (first, blank) == ("Healthy: gateway 1, 0 of 9 in flight, no Redis", "")
    assert " ".join(head.split()) == "WORKER PID AGE STATE CONNECTIONS IN FLIGHT REQUESTS/S LOOP LAG MEMORY"
    assert one.split()[:2] == ["0", "71"]
    assert one.split()[4:] == ["ready", "12", "3", "45.5", "1.2", "ms", "60", "MiB"]
    assert two.endswith("-")


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0s"), (59.9, "59s"), (60, "1m 0s"), (3_725, "1h 2m"), (200_000, "2d 7h")]
)
def test_an_age_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert output.age(seconds) == text


def test_the_board_forgets_restarts_that_are_long_ago_but_counts_them() -> None:
    now = [1000.0]
    board = Board(lambda: now[0])
    board.started(0, 1)
    board.beat(0, 1, {"in_flight": 2, "pid": 999})
    assert board.as_data()["workers"] == [
        {"slot": 0, "pid": 1, "started_at": 1000.0, "state": "starting", "in_flight": 2}
    ]
    assert board.state(0, 1, "ready")
    assert not board.state(0, 1, "ready")
    assert not board.state(5, 5, "ready")
    board.ended(0, 1, "died")
    board.ended(0, 1, "died")
    board.started(1, 2)
    board.ended(1, 2, None)
    assert board.as_data()["recent"] == [[0.0, 0, "died"]]
    now[0] += RECENT_SECONDS + 1
    assert board.as_data()["recent"] == []
    assert board.as_data()["restarts"]["died"] == 1


def test_the_time_of_the_last_good_reload_stays() -> None:
    now = [1000.0]
    board = Board(lambda: now[0])
    board.reloaded([])
    now[0] = 2000.0
    board.reloaded(["wrong"])
    assert board.as_data()["reload"] == {
        "successful": False, "at": 2000.0, "succeeded_at": 1000.0, "problems": ["wrong"],
    }  # fmt: skip


def test_reports_of_the_same_transition_are_one() -> None:
    timeline = Timeline()
    assert timeline.record((0, 1), "u", [10.0, "closed", "open", "a"])
    assert not timeline.record((1, 2), "u", [10.2, "closed", "open", "b"])
    # Another one of the first worker, and one that is too late to be the same.
    assert timeline.record((0, 1), "u", [11.0, "half_open", "open", "c"])
    assert not timeline.record((1, 2), "u", [11.1, "half_open", "open", "c"])
    assert timeline.record((2, 3), "u", [20.0, "closed", "open", "d"])
    assert [each[3] for each in timeline.of("u")] == ["a", "c", "d"]
    for number in range(2 * KEPT):
        timeline.record((0, 1), "v", [float(number), "closed", "open", ""])
    assert len(timeline.of("v")) == KEPT
    again = Timeline()
    again.restore(timeline.all())
    assert again.all() == timeline.all()


@pytest.mark.parametrize(
    ("workers", "leads"),
    [
        ([], True),
        ([(0, 10, "starting"), (1, 11, "starting")], False),
        ([(0, 10, "starting"), (1, 11, "ready")], True),
        # The one before it in its slot still drains.
        ([(1, 9, "draining"), (1, 11, "ready")], True),
        ([(0, 10, "stalled"), (1, 11, "ready"), (2, 12, "ready")], True),
        ([(0, 10, "ready"), (1, 11, "ready")], False),
    ],
)
def test_one_worker_leads(workers: list[tuple[int, int, str]], *, leads: bool) -> None:
    host = Host(1, 11)
    host.told({"workers": [{"slot": slot, "pid": pid, "state": state} for slot, pid, state in workers]})
    assert host.leads is leads


def test_the_longest_lateness_is_told_for_ten_seconds() -> None:
    lag = LoopLag()
    lag.note(0.5)
    for _ in range(10 * SECONDS - 1):
        lag.note(0.001)
    assert lag.seconds == 0.5
    for _ in range(20):
        lag.note(0.001)
    assert lag.seconds == 0.001

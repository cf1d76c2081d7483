"""Sagas when something dies: the walk over every point between two durable writes, and a gateway that was stopped for
longer than its lease."""

import http.client
import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from gateway.saga_runner.tenure import LEASE
from tests.conftest import StartGateway
from tests.faults.test_outbox import KINDS, changed
from tests.integration.test_sagas import SAGAS, becomes, configuration, saga, start, step
from tests.support.crash_walk import Walk
from tests.support.gateway_process import GatewayProcess
from tests.support.journal_gateways import upgraded
from tests.support.participants import LOST, Participants
from tests.support.plain_http import request as http_request
from tests.support.postgres_server import execute
from tests.support.waiting import eventually

WALK = Walk(12)
STEPS = ("reserve", "pay", "ship")
WORKFLOW: dict[str, Any] = {"steps": [step("reserve"), step("pay"), step("ship", body={"fail": "{/input/fail}"})]}


@pytest.fixture
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    """The URL of an empty journal of a kind."""

    def made(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/journal.db"
        return upgraded(request.getfixturevalue("postgres_url"))

    return made


def variables(journal: str, **more: str) -> dict[str, str]:
    common = {"GATEWAY_CONFIG": "gateway.yaml", "JOURNAL_URL": journal, "JOURNAL_TIMEOUT_SECONDS": "20"}
    return {**common, "RATE_LIMIT_ENABLED": "false", **more}


def files(participants: Participants) -> dict[str, str]:
    return {"gateway.yaml": configuration(participants.url, {"checkout": WORKFLOW})}


def begin(port: int, number: int) -> str | None:
    """The id of the run; None where it was not taken, or nobody can tell. Every third one cannot be carried out."""
    body = json.dumps({"fail": number % 3 == 0}).encode()
    headers = {"Idempotency-Key": f"run-{number}", "Content-Type": "application/json"}
    try:
        answer = http_request(port, "/keyed", method="POST", body=body, headers=headers, timeout=20)
    except (OSError, http.client.HTTPException):
        return None
    return str(answer.json()["id"]) if answer.status == 202 else None


def agree(participants: Participants, run: str, state: str) -> bool:
    """Whether what the participants have done is what the run says."""
    for name in STEPS:
        done, undone = participants.of(run, name)
        if state == "succeeded" and (done, undone) != (1, 0):
            return False
        if state == "compensated" and (done > 1 or (done and not undone)):
            return False
    return True


def listed(gateway: GatewayProcess) -> dict[str, str]:
    return {each["id"]: each["state"] for each in gateway.get(f"{SAGAS}?count=1000").json()["sagas"]}


@pytest.mark.parametrize(
    "point",
    [
        *("journal.commit:1", "journal.committed:1", "journal.commit:9", "journal.committed:9", "journal.committed:15"),
        *("saga.sent:1", "saga.sent:9", "saga.sent:20", "saga.written:1", "saga.written:9"),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_crash_walk(start_gateway: StartGateway, journal: Any, kind: str, point: str) -> None:
    """A gateway is killed there and started again: every run that has begun ends, the participants agree, and whoever
    repeats a request with its key gets the run of before."""
    where = journal(kind)
    with Participants() as participants:
        participants.answers["/do/pay"].extend([LOST, 200, 503])
        participants.answers["/undo/reserve"].extend([LOST, 500])
        gateway = start_gateway(
            variables(where, GATEWAY_FAULT_POINT=WALK.point(point), WORKERS="1"), files=files(participants)
        )
        died = threading.Event()

        def first_time(number: int) -> str | None:
            made = None if died.is_set() else begin(gateway.port, number)
            if made is None:
                died.set()
            return made

        with ThreadPoolExecutor(4) as pool:
            first = list(pool.map(first_time, range(WALK.requests)))
        gateway.wait_until(lambda: "SIGKILL" in gateway.output, "a worker that was killed")
        gateway.kill()

        # Instead of waiting until the leases of the dead have ended.
        changed(where, "UPDATE saga_runs SET lease_until = 0")
        changed(where, "UPDATE idempotency_records SET lease_until = 0")
        second = start_gateway(variables(where, WORKERS="2"), files=files(participants))
        again = [begin(second.port, number) for number in range(WALK.requests)]
        assert None not in again
        ends = {"succeeded", "compensated"}
        eventually(lambda: set(listed(second).values()) <= ends, f"ended: {listed(second)}", WALK.patience)
        runs = listed(second)
        assert sorted(runs) == sorted(filter(None, again))
        assert [each for each, new in zip(first, again, strict=True) if each not in {None, new}] == []
        for number, run in enumerate(again):
            assert run is not None
            assert agree(participants, run, runs[run]), saga(second, run)
            assert runs[run] == "compensated" or number % 3


@pytest.mark.parametrize("kind", KINDS)
def test_another_gateway_takes_over_when_one_is_killed(start_gateway: StartGateway, journal: Any, kind: str) -> None:
    """Without anybody's help: when the lease ends."""
    where = journal(kind)
    with Participants() as participants:
        one = start_gateway(variables(where, WORKERS="1"), files=files(participants))
        two = start_gateway(variables(where, WORKERS="1"), files=files(participants))
        participants.gate.clear()
        run = str(start(one, "checkout", {"fail": False}).json()["id"])
        eventually(lambda: participants.attempts[f"{run}.reserve.do"] == 1, "under way")
        one.kill()
        participants.gate.set()
        becomes(two, run, "succeeded")
        assert participants.attempts[f"{run}.reserve.do"] == 2
        assert agree(participants, run, "succeeded")


def test_a_gateway_that_was_stopped_for_longer_than_its_lease_changes_nothing(
    start_gateway: StartGateway, journal: Any
) -> None:
    where = journal("postgresql")
    with Participants() as participants:
        one = start_gateway(variables(where, WORKERS="1"), files=files(participants))
        two = start_gateway(variables(where, WORKERS="1"), files=files(participants))
        participants.answers["/do/reserve"].append(422)
        participants.gate.clear()
        run = str(start(one, "checkout", {"fail": False}).json()["id"])
        eventually(lambda: participants.attempts[f"{run}.reserve.do"] == 1, "under way")
        one.pause()
        changed(where, "UPDATE saga_runs SET lease_until = 0")
        participants.gate.set()
        shown = becomes(two, run, "succeeded")
        one.resume()
        # Its attempt was refused: written late, that would compensate the run.
        one.wait_until(lambda: one.get("/health").status == 200, "answering again")
        time.sleep(1.0)
        later = saga(two, run)
        assert (later["state"], later["events"]) == ("succeeded", shown["events"])
        assert agree(participants, run, "succeeded")


def test_while_a_lease_holds_nobody_else_carries_a_run_out(start_gateway: StartGateway, journal: Any) -> None:
    """For longer than a lease: it is renewed while a step lasts."""
    where = journal("postgresql")
    with Participants() as participants:
        slow = {"steps": [step("reserve", timeout="60s"), step("pay"), step("ship")]}
        config = {"gateway.yaml": configuration(participants.url, {"checkout": slow})}
        gateways = [start_gateway(variables(where), files=config) for _ in range(2)]
        participants.gate.clear()
        made = [str(start(gateways[number % 2], "checkout", {"fail": False}).json()["id"]) for number in range(8)]
        leases = "SELECT min(lease_until) FROM saga_runs"
        first = float(execute(leases, where))
        eventually(lambda: float(execute(leases, where)) > first + LEASE / 4, "renewed")
        participants.gate.set()
        for run in made:
            becomes(gateways[0], run, "succeeded")
        assert {participants.attempts[f"{run}.reserve.do"] for run in made} == {1}


def test_a_journal_that_goes_away_for_a_while_loses_nothing(
    start_gateway: StartGateway, journal: Any, tmp_path: Path
) -> None:
    where = journal("sqlite")
    with Participants() as participants:
        gateway = start_gateway(variables(where, WORKERS="1", JOURNAL_TIMEOUT_SECONDS="0.5"), files=files(participants))
        participants.gate.clear()
        run = str(start(gateway, "checkout", {"fail": False}).json()["id"])
        eventually(lambda: participants.attempts[f"{run}.reserve.do"] == 1, "under way")
        blocker = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        try:
            blocker.execute("BEGIN IMMEDIATE")
            participants.gate.set()
            answer = start(gateway, "checkout", {"fail": False})
            assert (answer.status, answer.json()["reason"]) == (503, "journal_unavailable")
        finally:
            blocker.close()
        becomes(gateway, run, "succeeded")
        assert agree(participants, run, "succeeded")

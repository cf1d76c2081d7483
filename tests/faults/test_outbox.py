"""The outbox when something dies: the walk over every point between two durable writes, and a holder that was stopped
for longer than its lease."""

import http.client
import json
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import StartGateway
from tests.integration.test_outbox import configuration
from tests.support.crash_walk import Walk
from tests.support.gateway_process import GatewayProcess
from tests.support.journal_gateways import upgraded
from tests.support.plain_http import request
from tests.support.postgres_server import execute
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

MESSAGES = 40
WALK = Walk(MESSAGES)
KINDS = ["sqlite", "postgresql"]
Journal = Callable[[str], str]


@pytest.fixture
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> Journal:
    """The URL of an empty journal of this kind."""

    def made(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/journal.db"
        return upgraded(request.getfixturevalue("postgres_url"))

    return made


def changed(url: str, sql: str) -> None:
    if url.startswith("sqlite:"):
        with sqlite3.connect(url.removeprefix("sqlite:///"), timeout=60) as connection:
            connection.execute(sql)
        connection.close()
    else:
        execute(sql, url)


def variables(journal: str, **more: str) -> dict[str, str]:
    common = {"GATEWAY_CONFIG": "gateway.yaml", "JOURNAL_URL": journal, "JOURNAL_TIMEOUT_SECONDS": "20"}
    return {**common, "RATE_LIMIT_ENABLED": "false", **more}


def files(receiver: Receiver, **deliver: object) -> dict[str, str]:
    settings = {"enabled": True, "schedule": [0.2] * 20, "jitter": 0, "order_by": "X-Key", **deliver}
    return {"gateway.yaml": configuration(receiver.url, {"hooks": {"deliver": settings}})}


def send(port: int, body: bytes) -> str | None:
    """The id of the message; None where it was not taken, or nobody can tell."""
    try:
        answer = request(port, "/hooks/in", method="POST", body=body, headers={"X-Key": f"{body[-1] % 4}"}, timeout=20)
    except (OSError, http.client.HTTPException):
        return None
    return str(answer.json()["id"]) if answer.status == 202 else None


@pytest.mark.parametrize(
    "point",
    [
        *("journal.commit:1", "journal.committed:1", "journal.commit:9", "journal.committed:9", "journal.committed:30"),
        *("outbox.claimed:1", "outbox.claimed:4", "outbox.sent:1", "outbox.sent:9", "outbox.written:1"),
        "outbox.written:9",
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_the_crash_walk(start_gateway: StartGateway, journal: Journal, kind: str, point: str) -> None:
    """A gateway is killed there and started again: every message that was acknowledged arrives, and a receiver that
    drops ids that it knows sees each of them once."""
    where = journal(kind)
    with Receiver() as receiver:
        gateway = start_gateway(
            variables(where, GATEWAY_FAULT_POINT=WALK.point(point), WORKERS="1"), files=files(receiver)
        )
        bodies = [f"message {number}".encode() for number in range(WALK.requests)]
        died = threading.Event()

        def first_time(body: bytes) -> str | None:
            made = None if died.is_set() else send(gateway.port, body)
            if made is None:
                died.set()
            return made

        with ThreadPoolExecutor(4) as pool:
            first = list(pool.map(first_time, bodies))
        gateway.wait_until(lambda: "SIGKILL" in gateway.output, "a worker that was killed")
        gateway.kill()
        taken = [body for body, message_id in zip(bodies, first, strict=True) if message_id is not None]

        # Instead of waiting until the leases of the dead have ended.
        changed(where, "UPDATE outbox_events SET lease_until = 0 WHERE due_at IS NOT NULL")
        second = start_gateway(variables(where, WORKERS="2"), files=files(receiver))
        eventually(lambda: set(taken) <= set(receiver.bodies), "delivered", WALK.patience)
        second.wait_until(lambda: delivered(second) == 0, "done")
        once = receiver.each_once
        assert len(once) == len(set(once))
        assert set(taken) <= set(once)
        known = {message_id for message_id in first if message_id}
        assert known <= set(receiver.attempts)
        counted = second.get("/api/resilience/outbox?count=1000").json()
        assert {each["state"] for each in counted["messages"]} <= {"delivered"}
        assert max(receiver.most.values(), default=0) <= 2  # the one that the dead gateway had sent, and its repetition


@pytest.mark.parametrize(("point", "replayed"), [("journal.commit:2", None), ("journal.committed:2", "true")])
def test_a_key_whose_gateway_died_is_good_for_one_message(
    start_gateway: StartGateway, journal: Journal, point: str, replayed: str | None
) -> None:
    """The first commit is the claim, the second one the message with its answer: there is nothing in between."""
    where = journal("sqlite")
    with Receiver() as receiver:
        keyed = {"deliver": {"enabled": True}, "idempotency": {"mode": "required"}}
        settings = {"gateway.yaml": configuration(receiver.url, {"hooks": keyed})}
        key = {"Idempotency-Key": "key-1"}
        one = start_gateway(variables(where, GATEWAY_FAULT_POINT=point, WORKERS="1"), files=settings)
        with pytest.raises((OSError, http.client.HTTPException)):
            request(one.port, "/hooks/in", method="POST", body=b"message 1", headers=key, timeout=20)
        one.wait_until(lambda: "SIGKILL" in one.output, "a worker that was killed")
        one.kill()
        # Instead of waiting until the claim and the lease of the dead have ended.
        for table in ("idempotency_records", "outbox_events"):
            changed(where, f"UPDATE {table} SET lease_until = 0")  # noqa: S608 - names of this test
        two = start_gateway(variables(where, WORKERS="1"), files=settings)
        answer = two.request("POST", "/hooks/in", b"message 1", key)
        assert (answer.status, answer.headers.get("Idempotent-Replayed")) == (202, replayed)
        two.wait_until(lambda: delivered(two) == 0, "delivered")
        assert set(receiver.attempts) == {answer.json()["id"]}


def delivered(gateway: GatewayProcess) -> int:
    """How many are still to be."""
    return int(gateway.get("/api/resilience/outbox").json()["pending"])


@pytest.mark.parametrize("kind", KINDS)
def test_another_gateway_takes_over_when_one_is_killed(
    start_gateway: StartGateway, journal: Journal, kind: str
) -> None:
    """Without anybody's help: when the lease ends."""
    where = journal(kind)
    with Receiver() as receiver:
        settings = files(receiver, timeout=5)
        one = start_gateway(variables(where, WORKERS="1"), files=settings)
        receiver.gate.clear()
        made = send(one.port, b"message 1")
        assert made is not None
        eventually(lambda: receiver.attempts[made] == 1, "under way")
        one.kill()
        receiver.gate.set()
        two = start_gateway(variables(where, WORKERS="1"), files=settings)
        eventually(lambda: receiver.attempts[made] == 2, "sent by the other one", 90.0)
        two.wait_until(lambda: delivered(two) == 0, "delivered")


def test_a_holder_that_was_stopped_for_longer_than_its_lease_changes_nothing(
    start_gateway: StartGateway, journal: Journal
) -> None:
    where = journal("postgresql")
    with Receiver() as receiver:
        one = start_gateway(variables(where, WORKERS="1"), files=files(receiver, timeout=60))
        receiver.answers.append(500)
        receiver.gate.clear()
        made = send(one.port, b"message 1")
        assert made is not None
        eventually(lambda: receiver.attempts[made] == 1, "under way")
        one.pause()
        changed(where, "UPDATE outbox_events SET lease_until = 0")
        receiver.gate.set()
        two = start_gateway(variables(where, WORKERS="1"), files=files(receiver))
        two.wait_until(lambda: delivered(two) == 0, "delivered by the other one")
        one.resume()
        one.wait_for_metric('outbox_attempts_total{target="hooks",outcome="late"}', 1.0)
        shown = two.get(f"/api/resilience/outbox/{made}").json()
        assert (shown["state"], shown["attempts"], shown["lastStatus"]) == ("delivered", 1, 200)


def test_while_a_lease_holds_nobody_else_sends(start_gateway: StartGateway, journal: Journal) -> None:
    where = journal("postgresql")
    with Receiver() as receiver:
        gateways = [start_gateway(variables(where), files=files(receiver)) for _ in range(2)]
        receiver.gate.clear()
        made = [send(gateways[number % 2].port, f"message {number}".encode()) for number in range(MESSAGES)]
        assert None not in made
        time.sleep(1.0)  # several rounds of every worker
        receiver.gate.set()
        for gateway in gateways:
            gateway.wait_until(lambda each=gateway: delivered(each) == 0, "done")  # type: ignore[misc] # bound now
        assert {each: receiver.attempts[each] for each in made if each} == dict.fromkeys(filter(None, made), 1)
        assert set(receiver.most.values()) == {1}


def test_without_the_journal_nothing_is_promised(start_gateway: StartGateway, journal: Journal, tmp_path: Path) -> None:
    where = journal("sqlite")
    with Receiver() as receiver:
        gateway = start_gateway(variables(where, WORKERS="1", JOURNAL_TIMEOUT_SECONDS="0.5"), files=files(receiver))
        blocker = sqlite3.connect(tmp_path / "journal.db", isolation_level=None)
        try:
            blocker.execute("BEGIN IMMEDIATE")
            answer = gateway.request("POST", "/hooks/in", b"message 1", {"X-Key": "1"})
            assert (answer.status, json.loads(answer.body)["reason"]) == (503, "journal_unavailable")
            assert int(answer.headers["Retry-After"]) >= 1
        finally:
            blocker.close()
        gateway.wait_until(lambda: send(gateway.port, b"message 2") is not None, "taking messages again")
        eventually(lambda: b"message 2" in receiver.bodies, "delivered")
        assert b"message 1" not in receiver.bodies

"""Idempotency keys when something dies: the walk over every point between two durable writes, and a holder that was
stopped for longer than its lease."""

import contextlib
import http.client
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import StartGateway
from tests.support.counting_upstream import CountingUpstream
from tests.support.crash_walk import Walk
from tests.support.gateway_process import GatewayProcess
from tests.support.journal_gateways import upgraded
from tests.support.plain_http import Answer, request
from tests.support.postgres_server import PostgresServer, execute
from tests.support.waiting import eventually

KINDS = ["sqlite", "postgresql"]
WALK = Walk(60)
Journal = Callable[[str], str]


@pytest.fixture
def journal(tmp_path: Path, request: pytest.FixtureRequest) -> Journal:
    """The URL of an empty journal of this kind."""

    def made(kind: str) -> str:
        if kind == "sqlite":
            return f"sqlite:///{tmp_path}/journal.db"
        return upgraded(request.getfixturevalue("postgres_url"))

    return made


def variables(upstream: str, journal: str, **more: str) -> dict[str, str]:
    return {
        "UPSTREAM_URL": upstream,
        "JOURNAL_URL": journal,
        "JOURNAL_TIMEOUT_SECONDS": "20",
        "IDEMPOTENCY_MODE": "required",
        "RATE_LIMIT_ENABLED": "false",
        "UPSTREAM_TIMEOUT": "60",
        "UPSTREAM_TOTAL_TIMEOUT": "60",
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "10000",
        "RETRY_MAX_ATTEMPTS": "1",
        **more,
    }


def send(port: int, key: str, body: str | None = None) -> Answer | None:
    """None where there is no answer: the gateway has died."""
    try:
        return request(port, "/proxy/pay", method="POST", body=(body or key).encode(), headers={"Idempotency-Key": key})
    except (OSError, http.client.HTTPException):
        return None


@pytest.mark.parametrize("on_unknown", ["block", "retry"])
@pytest.mark.parametrize("point", ["journal.commit", "journal.committed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [1, 2, 17])
def test_the_crash_walk(
    start_gateway: StartGateway, journal: Journal, kind: str, point: str, at: int, on_unknown: str
) -> None:
    """A gateway is killed before and after a claim is written, and before and after an answer is. Then, for each key:
    what was answered is answered again; nothing is carried out twice; another body gets no answer."""
    where = journal(kind)
    with CountingUpstream() as upstream:
        env = variables(upstream.url, where, IDEMPOTENCY_ON_UNKNOWN=on_unknown)
        gateway = start_gateway({**env, "GATEWAY_FAULT_POINT": f"{point}:{WALK.at(at)}"})
        keys = [f"key-{number}" for number in range(WALK.requests)]
        died = threading.Event()

        def first_time(key: str) -> Answer | None:
            answer = None if died.is_set() else send(gateway.port, key)
            if answer is None:
                died.set()
            return answer

        with ThreadPoolExecutor(4) as pool:
            answers = dict(zip(keys, pool.map(first_time, keys), strict=True))
        assert died.is_set()
        gateway.kill()
        effects = dict(upstream.effects)
        if on_unknown == "retry":
            lapse(where)

        second = start_gateway(env)
        for key, first in answers.items():
            again = send(second.port, key)
            assert again is not None
            if first is not None and first.status == 200:
                assert (again.status, again.body) == (200, first.body), key
                assert again.headers["Idempotent-Replayed"] == "true"
            elif again.status == 200:
                assert again.body == upstream.answers[key]
            else:
                assert again.status == 409, (key, again.body)
                assert on_unknown == "block"
                assert upstream.effects[key] <= 1
            other = send(second.port, key, "another body")
            assert other is not None
            assert other.status in {409, 422}, (key, other.body)
        # It honours keys: whoever has asked it twice has asked with the same key.
        assert set(upstream.effects.values()) == {1}
        if on_unknown == "block":
            assert all(upstream.asked[key] == 1 for key in effects)
        assert set(upstream.effects) <= set(keys)


def lapse(where: str) -> None:
    """Let the leases of those that have died, or are stopped, end."""
    sql = "UPDATE idempotency_records SET lease_until = lease_until - 1000 WHERE state = 'running'"
    if where.startswith("sqlite:"):
        with contextlib.closing(sqlite3.connect(where.removeprefix("sqlite:///"))) as file, file:
            file.execute(sql)
    else:
        execute(sql, where)


@pytest.mark.parametrize("on_unknown", ["block", "retry"])
def test_a_gateway_that_was_stopped_past_its_lease_changes_nothing_when_it_goes_on(
    start_gateway: StartGateway, postgres_url: str, on_unknown: str
) -> None:
    where = upgraded(postgres_url)
    with CountingUpstream(honours=False) as upstream:
        env = variables(upstream.url, where, IDEMPOTENCY_ON_UNKNOWN=on_unknown, WORKER_STALL_SECONDS="3600")
        first, second = start_gateway(env), start_gateway(env)
        upstream.gate.clear()
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(send, first.port, "k")
            eventually(lambda: upstream.asked["k"] == 1, "asked")
            first.pause()
            lapse(where)
            upstream.gate.set()
            meanwhile = send(second.port, "k")
            assert meanwhile is not None
            if on_unknown == "block":
                # Nobody has taken the record: its holder may still say how it ended.
                assert meanwhile.status == 409
                assert meanwhile.json()["reason"] == "idempotency_outcome_unknown"
            else:
                assert (meanwhile.status, meanwhile.body) == (200, b"k 2")
            first.resume()
            late = asked.result()
        assert late is not None
        assert (late.status, late.body) == (200, b"k 1")
        kept = b"k 1" if on_unknown == "block" else b"k 2"
        for gateway in (first, second):
            again = send(gateway.port, "k")
            assert again is not None
            assert (again.body, again.headers["Idempotent-Replayed"]) == (kept, "true")
        first.wait_for_metric("idempotency_late_total", 0.0 if on_unknown == "block" else 1.0)
        assert upstream.effects["k"] == (1 if on_unknown == "block" else 2)


def test_a_postgresql_that_is_restarted_under_load_breaks_no_promise(
    start_gateway: StartGateway, own_postgres: PostgresServer
) -> None:
    where = upgraded(own_postgres.new_database())
    with CountingUpstream(honours=False) as upstream:
        gateway = start_gateway(variables(upstream.url, where))
        answered: dict[str, bytes] = {}
        refused: list[int] = []
        going = threading.Event()
        going.set()

        def client(name: int) -> None:
            number = 0
            while going.is_set():
                number += 1
                key = f"{name}-{number}"
                answer = send(gateway.port, key)
                assert answer is not None
                if answer.status == 200:
                    answered[key] = answer.body
                else:
                    refused.append(answer.status)

        with ThreadPoolExecutor(4) as pool:
            clients = [pool.submit(client, name) for name in range(4)]
            for end in (own_postgres.stop, own_postgres.kill):
                more(answered)
                end()
                eventually(lambda: gateway.metric("gateway_journal_up") == 0.0, "noticed")
                own_postgres.start()
                eventually(lambda: gateway.metric("gateway_journal_up") == 1.0, "back")
            more(answered)
            going.clear()
            for each in clients:
                each.result()
        assert set(refused) <= {503, 409}
        # What was answered while the journal was away is written when it is back.
        eventually(lambda: replayed(gateway, answered), "every answer kept")
        assert max(upstream.effects.values()) == 1


def more(answered: dict[str, bytes]) -> None:
    before = len(answered)
    eventually(lambda: len(answered) > before + 50, "answered")


def replayed(gateway: GatewayProcess, answered: dict[str, bytes]) -> bool:
    """Whether each of these answers comes again; none comes that is another one."""
    whole = True
    for key, body in list(answered.items()):
        again = send(gateway.port, key)
        assert again is not None
        if again.status == 200:
            assert again.body == body
        else:
            assert again.json()["reason"] in {"idempotency_key_in_progress", "idempotency_outcome_unknown"}
            whole = False
    return whole

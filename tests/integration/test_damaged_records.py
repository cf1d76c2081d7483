"""Rows of the journal into which somebody has written by hand what no gateway writes: operators see them, and
no answer about the others fails.

SQLite takes a value of any type in any column, so it is tried there; PostgreSQL refuses most of it by itself.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pytest
import yaml

from gateway.cli import main
from tests.conformance.test_journal_damage import ODD
from tests.integration.test_sagas import PLAIN, becomes, configuration, started
from tests.support.gateway_process import GatewayProcess
from tests.support.journal_gateways import TOKEN, variables
from tests.support.participants import Participants
from tests.support.waiting import eventually

Run = Callable[..., tuple[int, str, str]]
OUTBOX, SAGAS, KEYS = "/api/resilience/outbox", "/api/resilience/sagas", "/api/resilience/idempotency"
SHOWN = {
    "outbox_events": OUTBOX,
    "saga_runs": SAGAS,
    "saga_steps": SAGAS,
    "saga_events": SAGAS,
    "idempotency_records": KEYS,
}
KEYS_OF = {"outbox_events": "id", "saga_runs": "id", "saga_steps": "run_id", "saga_events": "run_id"}
PREFIXES = {"outbox_events": "msg_", "saga_runs": "saga_"}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """With a message that was delivered, a run that has ended and a finished record, to be damaged."""
    with Participants() as participants:
        whole = yaml.safe_load(configuration(participants.url, {"plain": PLAIN}))
        route = {"prefix": "/do", "upstream": "participants", "rate_limit": None, "name": "hooks"}
        whole["routes"].append({**route, "deliver": {"enabled": True, "schedule": []}})
        directory = tmp_path_factory.mktemp("gateway")
        (directory / "gateway.yaml").write_text(yaml.safe_dump(whole))
        with GatewayProcess(variables(WORKERS="1"), directory) as running:
            running.wait_until(lambda: running.metric("gateway_journal_up") == 1.0, "with a journal")
            message = running.request("POST", "/do/x", b"{}").json()["id"]
            eventually(lambda: running.get(f"{OUTBOX}/{message}").json()["state"] == "delivered", "it was delivered")
            becomes(running, started(running, "plain"), "succeeded")
            fields = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
            assert running.request("POST", "/keyed", b"{}", fields).status == 202
            yield running


@pytest.fixture
def run(gateway: GatewayProcess, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """One command: its exit status, and what it has printed."""
    monkeypatch.setenv("GATEWAY_URL", gateway.url)
    monkeypatch.setenv("ADMIN_TOKEN", TOKEN)

    def command(*arguments: str) -> tuple[int, str, str]:
        return main(arguments), *capsys.readouterr()

    return command


def journal(gateway: GatewayProcess) -> sqlite3.Connection:
    return sqlite3.connect(gateway.directory / "var/journal.db", 30.0, isolation_level=None)


def damage(journal: sqlite3.Connection, table: str, column: str) -> list[str]:
    """Add a copy of the table's first row for each odd value, with that in the column; the ids to look at."""
    names = [row[1] for row in journal.execute(f"PRAGMA table_info({table})")]
    ids = []
    for number, odd in enumerate([*ODD, "NULL"]):
        values = {name: name for name in names}
        shown = f"{PREFIXES.get(table, 'saga_')}{number:026}"
        if table in {"saga_steps", "saga_events"}:
            _copy(journal, "saga_runs", {"id": f"'{shown}'", "ended_at": "NULL", "due_at": "9e15"})
        if table == "idempotency_records":
            values["id"] = f"randomblob(32 + {number})"
        else:
            values[KEYS_OF[table]] = f"'{shown}'"
        _copy(journal, table, {**values, column: odd})
        ids.append(shown)
    return ids


def _copy(journal: sqlite3.Connection, table: str, values: dict[str, str]) -> None:
    names = [row[1] for row in journal.execute(f"PRAGMA table_info({table})")]
    chosen = ", ".join(values.get(name, name) for name in names)
    # Our own names and literals. What may not be NULL is left out.
    journal.execute(f"INSERT OR IGNORE INTO {table} SELECT {chosen} FROM {table} ORDER BY rowid LIMIT 1")  # noqa: S608


@pytest.mark.parametrize("table", SHOWN)
def test_operators_see_damaged_rows(gateway: GatewayProcess, table: str) -> None:
    path, wrong = SHOWN[table], []
    with closing(journal(gateway)) as file:
        names = [row[1] for row in file.execute(f"PRAGMA table_info({table})")]
        first = {each: file.execute(f"SELECT max(rowid) FROM {each}").fetchone()[0] for each in SHOWN}  # noqa: S608 - our own
        for column in names:
            ids = damage(file, table, column)
            more = [] if path == KEYS else [f"?count={len(ids) - 1}", "?state=damaged", *(f"/{each}" for each in ids)]
            answers = {target: gateway.get(f"{path}{target}").status for target in ["", *more]}
            wrong += [(column, target, status) for target, status in answers.items() if status not in {200, 404}]
            for each, last in first.items():
                file.execute(f"DELETE FROM {each} WHERE rowid > ?", (last,))  # noqa: S608 - our own names
    assert wrong == []


def test_a_state_that_is_none_is_found_and_put_right(gateway: GatewayProcess, run: Run) -> None:
    message = gateway.request("POST", "/do/y", b"{}").json()["id"]
    eventually(lambda: gateway.get(f"{OUTBOX}/{message}").json()["state"] == "delivered", "it was delivered")
    begun = started(gateway, "plain")
    becomes(gateway, begun, "succeeded")
    with closing(journal(gateway)) as file:
        file.execute("UPDATE outbox_events SET state = 'odd' WHERE id = ?", (message,))
        file.execute("UPDATE saga_steps SET state = 7 WHERE run_id = ?", (begun,))
        file.execute("UPDATE saga_runs SET state = 'odd', ended_at = NULL WHERE id = ?", (begun,))
    assert [(each["id"], each["state"]) for each in listed(run, "outbox", "messages")] == [(message, "damaged")]
    assert [(each["id"], each["state"]) for each in listed(run, "sagas", "sagas")] == [(begun, "damaged")]
    assert run("sagas", "show", begun)[:2][0] == 0
    assert {step["state"] for step in gateway.get(f"{SAGAS}/{begun}").json()["steps"]} == {"damaged"}
    series = 'saga_runs{workflow="plain",state="damaged"} 1'
    eventually(lambda: series in gateway.get("/metrics").body.decode(), "it is counted")

    assert run("outbox", "replay", message)[0] == 0
    eventually(lambda: gateway.get(f"{OUTBOX}/{message}").json()["state"] == "delivered", "it was delivered again")
    assert run("sagas", "resolve", begun, "succeeded", "--reason", "it was looked at")[0] == 0
    assert gateway.get(f"{SAGAS}/{begun}").json()["state"] == "succeeded"


def listed(run: Run, what: str, member: str) -> Any:
    code, out, error = run(what, "list", "--state", "damaged", "--json")
    assert (code, error) == (0, "")
    return json.loads(out)[member]

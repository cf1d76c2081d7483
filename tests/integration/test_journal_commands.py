"""`gateway journal status` and `upgrade`."""

import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from gateway.journal.schema import known, migrations
from tests.integration.conftest import Command

Journal = Callable[..., CompletedProcess[str]]


@pytest.fixture
def journal(command: Command) -> Journal:
    return partial(command, "journal")


def test_a_file_is_made_and_upgraded(journal: Journal, tmp_path: Path) -> None:
    before = journal("status")
    assert (before.returncode, before.stderr) == (1, "")
    assert before.stdout == f"SQLite file var/journal.db: schema version 0, this gateway needs {known()}\n"
    assert not (tmp_path / "var").exists()
    upgraded = journal("upgrade")
    assert (upgraded.returncode, upgraded.stderr) == (0, "")
    assert [line.split(": ")[1] for line in upgraded.stdout.splitlines()] == [each.name for each in migrations()]
    assert journal("upgrade").stdout == "SQLite file var/journal.db: nothing to do\n"
    assert journal("status").returncode == 0


def test_what_waits_is_told(journal: Journal, tmp_path: Path) -> None:
    journal("upgrade")
    assert len(journal("status").stdout.splitlines()) == 1
    with sqlite3.connect(tmp_path / "var" / "journal.db") as file:
        for number, state in enumerate(("running", "running", "stuck")):
            file.execute(
                "INSERT INTO saga_runs (id, workflow, state, definition, input, headers, correlation_id, deadline_at,"
                " created_at, updated_at) VALUES (?, 'checkout', ?, '', '', '', '', 0, 0, 0)",
                (str(number), state),
            )
        file.execute(
            "INSERT INTO outbox_events (id, target, state, due_at, created_at, size, correlation_id, method, path,"
            " headers, body) VALUES ('1', 'hooks', 'queued', 0, 0, 0, '', 'POST', '', '', '')"
        )
    file.close()
    told = journal("status")
    assert (told.returncode, told.stderr) == (0, "")
    assert [line.partition(": ")[2] for line in told.stdout.splitlines()[1:]] == [
        "runs of the workflow checkout that are running: 2",
        "runs of the workflow checkout that are stuck: 1",
        "messages that wait to be delivered: 1, given up: 0",
    ]


def test_a_file_of_a_newer_gateway_is_a_reason(journal: Journal, tmp_path: Path) -> None:
    journal("upgrade")
    with sqlite3.connect(tmp_path / "var" / "journal.db") as file:
        file.execute("INSERT INTO journal_schema VALUES (9999, 'more', 0)")
    file.close()
    assert journal("status").returncode == 1
    refused = journal("upgrade")
    assert refused.returncode == 1
    assert refused.stderr == (
        f"gateway: its schema has version 9999, and this gateway knows {known()}: run the newer gateway\n"
    )


def test_postgresql_is_upgraded(journal: Journal, postgres_url: str) -> None:
    assert journal("status", JOURNAL_URL=postgres_url).returncode == 1
    assert len(journal("upgrade", JOURNAL_URL=postgres_url).stdout.splitlines()) == known()
    status = journal("status", JOURNAL_URL=postgres_url)
    assert status.returncode == 0
    assert status.stdout.startswith("PostgreSQL 127.0.0.1:")


def test_without_a_server_the_reason_names_it_and_no_password(journal: Journal) -> None:
    done = journal("status", JOURNAL_URL="postgresql://u:s3cret@127.0.0.1:1/db")
    assert done.returncode == 1
    assert done.stderr.startswith("gateway: PostgreSQL 127.0.0.1:1/db cannot be reached: ")
    assert "s3cret" not in done.stderr


def test_a_wrong_configuration_is_told_as_everywhere(journal: Journal) -> None:
    done = journal("status", JOURNAL_URL="nowhere")
    assert done.returncode == 1
    assert done.stderr.startswith("environment JOURNAL_URL: ")

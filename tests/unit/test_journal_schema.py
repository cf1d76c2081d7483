"""Migrations of the journal: numbered without a gap, and in SQL that both backends understand."""

import re
from pathlib import Path

import pytest

from gateway.journal.port import Statement
from gateway.journal.schema import PROBE, TABLES, migrations


def write(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).write_text(
            "-- A remark; with a semicolon.\nCREATE TABLE a (b TEXT);\n\nCREATE TABLE c\n  (d TEXT);\n"
        )


def test_the_migrations_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, "0002_second.sql", "0001_first.sql")
    found = migrations(tmp_path)
    assert [(each.version, each.name) for each in found] == [(1, "0001_first"), (2, "0002_second")]
    assert [each.sqlite for each in found[0].statements] == ["CREATE TABLE a (b TEXT)", "CREATE TABLE c\n  (d TEXT)"]


@pytest.mark.parametrize("names", [["0002_second.sql"], ["0001_a.sql", "0001_b.sql"], ["first.sql"]])
def test_a_gap_is_an_error(tmp_path: Path, names: list[str]) -> None:
    write(tmp_path, *names)
    with pytest.raises(ValueError, match="expected 000"):
        migrations(tmp_path)


def test_the_probe_looks_at_every_table() -> None:
    text = "\n".join(each.sqlite for migration in migrations() for each in migration.statements)
    made = re.findall(r"^CREATE TABLE (\w+)", text, re.MULTILINE)
    assert sorted(made) == sorted(TABLES)
    assert all(name in PROBE.sqlite for name in made)


def test_a_statement_has_a_text_for_each_backend() -> None:
    statement = Statement("SELECT $1, $12 FROM t WHERE a <= {now} {skip_locked}")
    assert statement.sqlite.startswith("SELECT $1, $12 FROM t WHERE a <= ((julianday('now')")
    assert statement.postgresql.startswith("SELECT $1, $12 FROM t WHERE a <= CAST(extract(epoch FROM")
    assert statement.postgresql.endswith("FOR UPDATE SKIP LOCKED")


def test_a_step_is_a_statement_with_its_arguments() -> None:
    statement = Statement("SELECT $1")
    assert statement(1) == (statement, (1,))

"""`JOURNAL_URL`: a path or PostgreSQL, and its password on no screen."""

import json

import pytest

from gateway.config import ConfigError, load, read
from gateway.config.report.plain import as_json
from gateway.config.report.text import as_text
from gateway.config.sections.journal.model import JournalConfig, PostgresqlConfig, SqliteConfig


def journal(**environ: str) -> JournalConfig:
    return load(environ, None).journal


@pytest.mark.parametrize(
    ("url", "path"),
    [("sqlite:///var/journal.db", "var/journal.db"), ("sqlite:////var/lib/journal.db", "/var/lib/journal.db")],
)
def test_urls_of_files(url: str, path: str) -> None:
    assert journal(JOURNAL_URL=url) == SqliteConfig(path)


@pytest.mark.parametrize(
    "url",
    ["postgresql://u:p%40ss@h:5433/db?sslmode=require", "postgresql:///db?host=/run/postgresql", "postgres://h/db"],
)
def test_urls_of_databases(url: str) -> None:
    assert journal(JOURNAL_URL=url) == PostgresqlConfig(url, timeout=2.0, connections=8)


def test_the_default_is_a_file() -> None:
    assert journal() == SqliteConfig("var/journal.db", timeout=2.0)


@pytest.mark.parametrize(
    "url",
    [
        *("sqlite://", "sqlite:///", "sqlite:///dir/", "sqlite://host/path", "sqlite:///a?mode=ro", "sqlite:///a#b"),
        *("var/journal.db", "mysql://h/db", "postgresql://h", "postgresql://h/", "postgresql://h:x/db"),
    ],
)
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"JOURNAL_URL": url}, None)
    assert [line.split(":")[0] for line in str(caught.value).splitlines()] == ["environment JOURNAL_URL"]


def test_no_password_is_shown() -> None:
    loaded = read({"JOURNAL_URL": "postgresql://u:s3cret@h/db"}, None)
    shown = as_json(loaded, {}, 1) + as_text(loaded, {}, 1) + repr(loaded.config)
    assert "s3cret" not in shown
    assert json.loads(as_json(loaded, {}, 1))["journal"]["timeout"] == 2.0
    with pytest.raises(ConfigError) as caught:
        load({"JOURNAL_URL": "postgresql://u:s3cret@h:x/db"}, None)
    assert "s3cret" not in str(caught.value)

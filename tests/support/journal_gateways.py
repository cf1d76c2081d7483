"""Gateways with a journal, in SQLite or in PostgreSQL, for the tests of what is kept there."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.gateway_process import GatewayProcess
from tests.support.processes import ChildProcess, clean_environment

TOKEN: Final = "a-token-of-sixteen-characters"
KINDS: Final = ("sqlite", "postgresql")
TOLERANT: Final[dict[str, Any]] = {"failure_threshold": 10_000, "minimum_calls": 1000, "window_size": 1000}
"""A circuit that does not open, whatever a test has its upstream answer."""
_FILE: Final = "sqlite:///var/journal.db"


def upgraded(url: str) -> str:
    """The URL of a database with the tables of the journal."""
    command = [sys.executable, "-m", "gateway", "journal", "upgrade"]
    environ = clean_environment(JOURNAL_URL=url)
    with ChildProcess("journal upgrade", command, env=environ, cwd=Path("/"), fork=True) as upgrade:
        assert upgrade.wait(120.0) == 0, upgrade.output
    return url


def variables(journal: str = _FILE, **more: str) -> dict[str, str]:
    """The environment of a gateway with two workers, which share nothing but the journal."""
    common = {"GATEWAY_CONFIG": "gateway.yaml", "JOURNAL_URL": journal, "JOURNAL_TIMEOUT_SECONDS": "30"}
    return {**common, "ADMIN_TOKEN": TOKEN, "WORKERS": "2", **more}


@contextmanager
def gateway_with_journal(
    request: pytest.FixtureRequest, factory: pytest.TempPathFactory, files: Mapping[str, str]
) -> Iterator[GatewayProcess]:
    """One with these files, and a journal of the kind that the fixture has as its parameter."""
    journal = _FILE
    if request.param == "postgresql":
        journal = upgraded(request.getfixturevalue("postgres_server").new_database())
    directory = factory.mktemp("gateway")
    for name, text in files.items():
        (directory / name).write_text(text)
    with GatewayProcess(variables(journal), directory) as running:
        running.wait_until(lambda: running.metric("gateway_journal_up") == 1.0, "with a journal")
        yield running

"""`gateway journal status` and `gateway journal upgrade`: the tables of the journal, whether a gateway runs or not.

Exit codes: 0 the tables are those of this gateway, 1 they are not, or the journal cannot be used.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway.journal.port import Journal


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", sources: argparse.ArgumentParser
) -> None:
    """Add them to the command line. `sources` has the options that say what to read."""
    journal = commands.add_parser("journal", help="the tables that promises are kept in")
    actions = journal.add_subparsers(required=True, metavar="{status,upgrade}")
    for name, ask, does in (
        (
            "status",
            _status,
            "the version of the tables, and what waits in them; exit 1 unless it is the one needed",
        ),
        ("upgrade", _upgrade, "bring the tables to the version of this gateway (a SQLite file gets there by itself)"),
    ):
        one = actions.add_parser(name, parents=[sources], help=does, description=does)
        one.set_defaults(command=lambda arguments, ask=ask: _run(arguments, ask))


Ask = Callable[["Journal"], Coroutine[Any, Any, int]]


def _run(arguments: argparse.Namespace, ask: Ask) -> int:
    # What reads a configuration, and the backends, are imported by the commands that use them.
    from gateway.config import ConfigError  # noqa: PLC0415
    from gateway.config.command_line import Given, read_given  # noqa: PLC0415
    from gateway.journal.opening import make_journal  # noqa: PLC0415
    from gateway.journal.port import JournalUnavailable  # noqa: PLC0415

    try:
        config = read_given(os.environ, Given(arguments.env_file, arguments.config)).config
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1

    async def asked() -> int:
        return await ask(make_journal(config.journal))

    try:
        return asyncio.run(asked())
    except ImportError:
        sys.stderr.write("gateway: PostgreSQL needs asyncpg: pip install 'resilient-api-gateway[journal]'\n")
    except JournalUnavailable as why:
        sys.stderr.write(f"gateway: {why}\n")
    return 1


async def _status(journal: "Journal") -> int:
    state = await journal.schema()
    _say(f"{journal.name}: schema version {state.version}, this gateway needs {state.known}")
    if not state.current:
        return 1
    await _say_what_waits(journal)
    return 0


async def _say_what_waits(journal: "Journal") -> None:
    """A gateway in which no route needs the journal does not look into it, so nobody else would tell."""
    from gateway.journal import outbox_backlog, sagas  # noqa: PLC0415 - as in `_run`

    await journal.start()
    try:
        runs, backlog = await journal.read(sagas.open_runs()), await journal.read(outbox_backlog.backlog())
    finally:
        await journal.close()
    for each in runs.counts:
        _say(f"{journal.name}: runs of the workflow {each.workflow} that are {each.state}: {each.runs}")
    if backlog.pending or backlog.dead:
        _say(f"{journal.name}: messages that wait to be delivered: {backlog.pending}, given up: {backlog.dead}")


async def _upgrade(journal: "Journal") -> int:
    done = await journal.upgrade()
    for name in done:
        _say(f"{journal.name}: {name}")
    if not done:
        _say(f"{journal.name}: nothing to do")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")

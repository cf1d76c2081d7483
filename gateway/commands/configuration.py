"""The commands that look at a configuration and run nothing: `gateway check` and `gateway routes`."""

import argparse
import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from gateway import operator
from gateway.system.cores import workers_for

if TYPE_CHECKING:
    from gateway.config import Loaded, Notice


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", sources: argparse.ArgumentParser
) -> None:
    """Add them to the command line. `sources` has the options that say what to read."""
    check = commands.add_parser("check", parents=[sources], help="validate the whole configuration")
    check.add_argument("--strict", action="store_true", help="exit 1 for warnings too")
    check.add_argument(
        "--diff", action="store_true", help="also ask the gateway that runs what a reload would change (GATEWAY_URL)"
    )
    check.set_defaults(command=_check)
    routes = commands.add_parser("routes", parents=[sources], help="print the effective routes and policies")
    routes.add_argument(
        "--json",
        action="store_true",
        help="the whole effective configuration as JSON, secrets masked, and where each setting comes from",
    )
    routes.set_defaults(command=_routes)


# What reads a configuration is imported by the commands that do so: `gateway run` leaves that to its workers.


def _loaded(arguments: argparse.Namespace) -> "Loaded":
    from gateway.config.command_line import Given, read_given  # noqa: PLC0415 - see above

    return read_given(os.environ, Given(arguments.env_file, arguments.config))


def _check(arguments: argparse.Namespace) -> int:
    from gateway.config import ConfigError  # noqa: PLC0415
    from gateway.config.report.text import summary  # noqa: PLC0415
    from gateway.config.worker_shares import rounded_up  # noqa: PLC0415

    try:
        loaded = _loaded(arguments)
    except ConfigError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    notices = (*loaded.notices, *rounded_up(loaded.config, workers_for(loaded.config.workers.count)))
    _warn(notices)
    if arguments.strict and notices:
        return 1
    sys.stdout.write(f"ok: {summary(loaded.config)}\n")
    return operator.differences() if arguments.diff else 0


def _routes(arguments: argparse.Namespace) -> int:
    from gateway.commands.gate_descriptions import gates_of  # noqa: PLC0415
    from gateway.config import ConfigError  # noqa: PLC0415
    from gateway.config.report.plain import as_json  # noqa: PLC0415
    from gateway.config.report.text import as_text  # noqa: PLC0415
    from gateway.config.worker_shares import rounded_up  # noqa: PLC0415

    try:
        loaded = _loaded(arguments)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    workers = workers_for(loaded.config.workers.count)
    _warn((*loaded.notices, *rounded_up(loaded.config, workers)))
    gates = gates_of(loaded.config)
    written = as_json if arguments.json else as_text
    sys.stdout.write(written(loaded, gates, workers))
    return 0


def _warn(notices: "Iterable[Notice]") -> None:
    sys.stderr.writelines(f"warning: {notice}\n" for notice in notices)

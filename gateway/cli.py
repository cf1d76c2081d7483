"""The command line: `gateway run`, `check` and `routes`, and an operator's commands (`gateway.operator`).

Exit codes: 0 all well, 1 the configuration is wrong or the start failed, 2 the command line is wrong. Problems are one
line each and read the same in every command: on standard output for `check`, whose product they are, on standard error
for the others. Notices (`warning: …`) are on standard error and change no exit code, unless `check --strict` is given;
`run` writes them to its log instead.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from gateway import __version__, operator
from gateway.compiled import HOW
from gateway.config import ConfigError, Loaded, Notice, Problem, read, report
from gateway.config.problems import shown


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments, or with those of the process. Returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway", description="A resilient API gateway.")
    parser.add_argument("--version", action="version", version=f"gateway {__version__} ({HOW})")
    parser.set_defaults(command=None)
    sources = argparse.ArgumentParser(add_help=False)
    sources.add_argument("--env-file", type=Path, metavar="FILE", help="read this file instead of .env")
    sources.add_argument("--config", metavar="FILE", help="YAML file, instead of the one GATEWAY_CONFIG names")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    run = commands.add_parser("run", parents=[sources], help="serve until SIGTERM or SIGINT")
    run.set_defaults(command=_run)
    check = commands.add_parser("check", parents=[sources], help="validate the whole configuration")
    check.add_argument("--strict", action="store_true", help="exit 1 for warnings too")
    check.set_defaults(command=_check)
    routes = commands.add_parser("routes", parents=[sources], help="print the effective routes and policies")
    routes.add_argument(
        "--json",
        action="store_true",
        help="the whole effective configuration as JSON, secrets masked, and where each setting comes from",
    )
    routes.set_defaults(command=_routes)
    operator.add_commands(commands)
    return parser


def _configuration(arguments: argparse.Namespace) -> Loaded:
    environ = dict(os.environ)
    if arguments.config is not None:
        if arguments.config and not Path(arguments.config).is_file():
            raise ConfigError([Problem("--config", shown(arguments.config), "an existing file")])
        environ["GATEWAY_CONFIG"] = arguments.config
    if arguments.env_file is None:
        return read(environ)
    if not arguments.env_file.is_file():
        # The default .env may be absent; one that was asked for may not.
        raise ConfigError([Problem("--env-file", shown(str(arguments.env_file)), "an existing file")])
    return read(environ, arguments.env_file)


def _run(arguments: argparse.Namespace) -> int:
    try:
        loaded = _configuration(arguments)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    from gateway import lifecycle  # noqa: PLC0415 - the other commands need no event loop

    return lifecycle.run(loaded.config, loaded.notices)


def _check(arguments: argparse.Namespace) -> int:
    try:
        loaded = _configuration(arguments)
    except ConfigError as error:
        sys.stdout.write(f"{error}\n")
        return 1
    _warn(loaded.notices)
    if arguments.strict and loaded.notices:
        return 1
    sys.stdout.write(f"ok: {report.summary(loaded.config)}\n")
    return 0


def _routes(arguments: argparse.Namespace) -> int:
    try:
        loaded = _configuration(arguments)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _warn(loaded.notices)
    from gateway.gate_descriptions import gates_of  # noqa: PLC0415 - the other commands build no gateway

    gates = gates_of(loaded.config)
    sys.stdout.write(report.as_json(loaded, gates) if arguments.json else report.as_text(loaded, gates))
    return 0


def _warn(notices: Iterable[Notice]) -> None:
    sys.stderr.writelines(f"warning: {notice}\n" for notice in notices)

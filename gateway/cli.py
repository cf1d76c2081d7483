"""The command line: `gateway run`, `check`, `routes` and `journal`, and an operator's commands (`gateway.operator`).

Exit codes: 0 all well, 1 the configuration is wrong or the start failed, 2 the command line is wrong. Problems are one
line each and read the same in every command: on standard output for `check`, whose product they are, on standard error
for the others. Notices (`warning: …`) are on standard error and change no exit code, unless `check --strict` is given;
`run` writes them to its log instead.
"""

import argparse
import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence

from gateway import __version__, operator
from gateway.commands import configuration, journal
from gateway.compiled import HOW


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program with these arguments, or with those of the process. Returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help(sys.stderr)
        return 2
    command: Callable[[argparse.Namespace], int] = arguments.command
    return command(arguments)


def program() -> int:
    """`main`, for a process that ends with it. What cannot be written is said in a line on standard error, and the exit
    status is 1. A reader that has gone (`gateway routes | head`) ends the program without a word, as SIGPIPE would."""
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.encoding.lower() != "utf-8":
        # A terminal that is not UTF-8 gets a question mark for what it cannot show.
        sys.stdout.reconfigure(errors="replace")
    try:
        try:
            status = main()
        except SystemExit as ended:
            # argparse, after it has printed its help, or what is wrong with the command line.
            status = ended.code if isinstance(ended.code, int) else 1
        sys.stdout.flush()
    except OSError:
        try:
            sys.stdout.flush()
        except OSError as error:
            # What is still in the buffer must not fail once more when the interpreter ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if error.errno == errno.EPIPE:
                return 128 + signal.SIGPIPE
            sys.stderr.write(f"gateway: standard output cannot be written: {error.strerror}\n")
            return 1
        raise
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="gateway", description="A resilient API gateway.")
    parser.add_argument("--version", action="version", version=f"gateway {__version__} ({HOW})")
    parser.set_defaults(command=None)
    sources = argparse.ArgumentParser(add_help=False)
    sources.add_argument("--env-file", metavar="FILE", help="read this file instead of .env")
    sources.add_argument("--config", metavar="FILE", help="YAML file, instead of the one GATEWAY_CONFIG names")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    run = commands.add_parser("run", parents=[sources], help="serve until SIGTERM or SIGINT")
    run.set_defaults(command=_run)
    configuration.add_commands(commands, sources)
    journal.add_commands(commands, sources)
    operator.add_commands(commands)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    from gateway.supervisor import supervisor  # noqa: PLC0415 - the other commands need no event loop

    return supervisor.run((arguments.env_file, arguments.config))

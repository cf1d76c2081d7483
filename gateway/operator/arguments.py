"""The arguments of the operator's commands, and what ends one of them.

Where the gateway is: `--url`, else `GATEWAY_URL`, else this machine, on `ADMIN_PORT`, `PORT` (environment) or 5000. The
token is `ADMIN_TOKEN` of the environment. It is never an argument, because everybody on the machine can see arguments.
"""

import argparse
import os
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from gateway.operator import circuit, endpoint, errors, explain, fault, keys, promises, service, status
from gateway.operator.client import Client, NoAnswerError, RefusedError
from gateway.syntax.units import duration, number

Command = Callable[[Client, argparse.Namespace], int]

NO_ANSWER = 3
SORTS = ("worst", "name", "requests", "errors", "p95", "in-flight")
_KEY_OR_ID = re.compile(r"([a-z0-9]{8,32})|gw_([a-z0-9]{8,32})_.*", re.ASCII)


def add_commands(commands: Any) -> None:
    """Add them to the subparsers of a command line. Each sets `command`, which takes the parsed arguments."""
    common = _common()
    ordered = argparse.ArgumentParser(add_help=False, parents=[common])
    ordered.add_argument("--reason", help="why, for the audit log and for whoever looks at it")

    _command(
        commands,
        "status",
        common,
        status.run,
        "how the gateway, its workers and its upstreams are; exit 1 unless Healthy",
    )

    watched = _command(commands, "top", common, _top, "every service as it is, once a second, what hurts first")
    watched.add_argument("--once", action="store_true", help="print it once and end")
    watched.add_argument("--sort", choices=SORTS, default="worst", help="what comes first (worst)")

    asked = _command(commands, "explain", common, explain.run, "what would become of a request; exit 1 if refused")
    asked.add_argument("path", help="as in the request line, such as /proxy/ok")
    asked.add_argument("--method", default="GET")
    asked.add_argument("--client", metavar="ADDRESS", help="the client's address")
    asked.add_argument("--host", metavar="NAME", help="what its Host says")
    asked.add_argument("--consumer", metavar="NAME", help="whose credential it has")
    asked.add_argument("--tenant", metavar="NAME", help="the consumer's tenant, if the file does not say it")
    asked.add_argument(
        "--scope", metavar="S", action="append", default=[], help="a scope of its token; may be repeated"
    )

    recent = _command(commands, "errors", common, errors.run, "the latest errors and refusals, newest first")
    recent.add_argument("--count", type=int, default=20, help="at most so many (20)")
    recent.add_argument("--service", metavar="NAME", help="those of one upstream")

    held = commands.add_parser("circuit", help="hold a circuit open or closed, or let it go")
    actions = held.add_subparsers(required=True, metavar="{open,close,release}")
    for action, does in (
        ("open", "every request to the upstream is refused"),
        ("close", "every request goes through, whatever fails"),
        ("release", "end a forced state"),
    ):
        one = _command(actions, action, ordered, circuit.run, does)
        one.set_defaults(action=action)
        one.add_argument("upstream", nargs="?", default="default")
        if action != "release":
            _for(one, "5m", "a day")

    forgotten = _command(commands, "reset", common, circuit.reset, "forget an upstream's figures and close its circuit")
    forgotten.add_argument("upstream", nargs="?", default="default")

    again = _command(commands, "reload", common, service.reload, "read the configuration anew; exit 1 if not done")
    again.add_argument("--dry-run", action="store_true", help="only say what would change")
    _command(commands, "upgrade", common, service.upgrade, "run the code that is installed now, without a restart")
    _add_keys(commands, common)
    _add_endpoints(commands, common, ordered)
    _add_faults(commands, common, ordered)
    promises.add_sagas(commands, common, _command)
    promises.add_outbox(commands, common, _command, _seconds)


def _add_endpoints(commands: Any, common: argparse.ArgumentParser, ordered: argparse.ArgumentParser) -> None:
    """`gateway endpoint`."""
    places = commands.add_parser("endpoint", help="take one endpoint of an upstream out of service, and back")
    moves = places.add_subparsers(required=True, metavar="{list,drain,disable,enable}")
    _command(moves, "list", common, endpoint.listed, "every endpoint")
    for action, does in (
        ("drain", "no new requests; what is under way ends by itself"),
        ("disable", "the same, and no health checks"),
        ("enable", "take it into service again"),
    ):
        one = _command(moves, action, ordered, endpoint.run, does)
        one.set_defaults(action=action)
        one.add_argument("upstream")
        one.add_argument("endpoint", help="host:port, as `gateway endpoint list` says it")
        if action != "enable":
            _for(one, "1h", "a week")


def _add_faults(commands: Any, common: argparse.ArgumentParser, ordered: argparse.ArgumentParser) -> None:
    """`gateway fault`."""
    faults = commands.add_parser("fault", help="have an upstream fail on purpose, for a drill")
    actions = faults.add_subparsers(required=True, metavar="{add,list,remove}")
    added = _command(actions, "add", ordered, fault.add, "have some of the attempts at an upstream fail for a while")
    added.add_argument("upstream")
    added.add_argument("kind", choices=["delay", "abort", "reset", "truncate", "slow_body", "connect_timeout"])
    added.add_argument("--percent", type=float, required=True, help="of the attempts; FAULTS_MAX_PERCENT is the most")
    _for(added, "1m", "FAULTS_MAX_DURATION_SECONDS")
    added.add_argument("--route", help="only requests of this route")
    added.add_argument("--endpoint", metavar="HOST:PORT", help="only attempts at this endpoint")
    added.add_argument(
        "--clients", type=_clients, metavar="FIELD=PERCENT", help="only some of the clients, told apart by a field"
    )
    added.add_argument("--delay", type=_seconds, metavar="TIME", help="of a delay (1s)")
    added.add_argument("--status", type=int, help="of an abort (503)")
    added.add_argument("--rate", type=int, metavar="BYTES", help="a second, of a slow body (1024)")
    _command(actions, "list", common, fault.listed, "the faults of now")
    removed = _command(actions, "remove", common, fault.remove, "end a fault, or all of them")
    which = removed.add_mutually_exclusive_group(required=True)
    which.add_argument("id", nargs="?", help="as `gateway fault list` says it")
    which.add_argument("--all", action="store_true", help="chaos keys of Redis included")


def differences() -> int:
    """`gateway check --diff`: ask the gateway that runs beside this command what a reload would change. Returns the
    exit status."""
    arguments = argparse.Namespace(url=None, json=False, ca_file=None, insecure=False, dry_run=True)
    return _ended(service.reload, arguments)


def default_url(environ: Mapping[str, str]) -> str:
    """The base URL of the control plane that runs beside this command: `GATEWAY_URL`, or 127.0.0.1 with the port and
    the scheme that the same environment gives to the gateway."""
    given = environ.get("GATEWAY_URL", "").strip()
    if given:
        return given
    port = environ.get("ADMIN_PORT", "").strip() or environ.get("PORT", "").strip() or "5000"
    scheme = "https" if environ.get("TLS_CERT_FILE", "").strip() and not environ.get("ADMIN_PORT") else "http"
    return f"{scheme}://127.0.0.1:{port}"


def _add_keys(commands: Any, common: argparse.ArgumentParser) -> None:
    """`gateway keys`."""
    known = commands.add_parser("keys", help="API keys: create, rotate, revoke and list them")
    actions = known.add_subparsers(required=True, metavar="{create,rotate,revoke,list}")
    created = _command(actions, "create", common, keys.create, "make a key; it is printed once and kept nowhere")
    created.add_argument("consumer")
    created.add_argument("--tenant", metavar="NAME", help="whose limits it shares")
    created.add_argument("--scope", action="append", default=[], metavar="SCOPE", help="what it may; may be repeated")
    created.add_argument("--for", dest="lifetime", type=_seconds, metavar="TIME", help="how long it is good (for ever)")
    created.add_argument("--yaml", action="store_true", help="ask no gateway: print what belongs into the YAML file")
    rotated = _command(actions, "rotate", common, keys.rotate, "make a key in place of another one, which then ends")
    rotated.add_argument("id", type=_key_id, help="of the key that ends")
    rotated.add_argument(
        "--grace", type=_seconds, default="24h", metavar="TIME", help="how long the old one is good yet (24h)"
    )
    revoked = _command(actions, "revoke", common, keys.revoke, "end a key now, everywhere within two seconds")
    revoked.add_argument("id", type=_key_id, help="of the key; the whole key will do, of which nothing else is sent")
    listed = _command(actions, "list", common, keys.listed, "every key that Redis has: whose, and how long it is good")
    listed.add_argument("consumer", nargs="?", help="those of one consumer")


def _top(client: Client, arguments: argparse.Namespace) -> int:
    try:
        from gateway.operator import top  # noqa: PLC0415 - only this command needs rich
    except ImportError as error:
        if error.name is None or error.name.partition(".")[0] != "rich":
            raise
        return _failed("top needs the package rich: pip install 'resilient-api-gateway[top]'", 1)
    return top.run(client, arguments)


def _common() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--url", help="http(s)://host:port of the control plane (GATEWAY_URL, else this machine)")
    common.add_argument("--json", action="store_true", help="what the gateway answers, as JSON")
    common.add_argument("--ca-file", metavar="FILE", help="authorities for https, PEM, instead of the system's")
    common.add_argument("--insecure", action="store_true", help="trust any certificate")
    return common


def _command(commands: Any, name: str, parent: argparse.ArgumentParser, run: Command, does: str) -> Any:
    parser = commands.add_parser(name, parents=[parent], help=does, description=does)
    parser.set_defaults(command=lambda arguments: _ended(run, arguments))
    return parser


def _for(parser: Any, default: str, most: str) -> None:
    help_text = f"how long, such as 90s, 10m, 2h ({default}; at most {most})"
    parser.add_argument("--for", dest="duration", type=_seconds, default=default, metavar="TIME", help=help_text)


def _key_id(text: str) -> str:
    """The id in what is given: whoever has found a key somewhere has the whole of it. It is not in the message."""
    found = _KEY_OR_ID.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError("8 to 32 lower-case letters and digits, or a whole key")
    return found[1] or found[2]


def _clients(text: str) -> tuple[str, float]:
    header, equals, percent = text.rpartition("=")
    share = number(percent)
    if not (equals and header and share is not None and share > 0):
        raise argparse.ArgumentTypeError("FIELD=PERCENT, such as X-User-Id=10")
    return header, share


def _seconds(text: str) -> float:
    seconds = float(text) if text.isdecimal() and text.isascii() else duration(text)
    if seconds is None:
        raise argparse.ArgumentTypeError("a time such as 90s, 10m or 2h")
    return seconds


def _ended(run: Command, arguments: argparse.Namespace) -> int:
    """Run the command. Returns its exit status, or 3 when nobody answers, 1 when the gateway refuses, and 2 when the
    arguments cannot be right."""
    environ = os.environ
    if getattr(arguments, "duration", None) is not None and not arguments.reason:
        return _failed("--reason is needed: it goes to the audit log", 2)
    try:
        client = Client(
            arguments.url or default_url(environ),
            environ.get("ADMIN_TOKEN", "").strip() or None,
            environ.get("USER") or None,
            ca_file=arguments.ca_file,
            insecure=arguments.insecure,
        )
    except (ValueError, OSError) as error:
        return _failed(f"--url, --ca-file: {error}", 2)
    try:
        return run(client, arguments)
    except NoAnswerError as error:
        return _failed(str(error), NO_ANSWER)
    except RefusedError as refused:
        hint = "; set ADMIN_TOKEN in the environment" if refused.status == 401 and "ADMIN_TOKEN" not in environ else ""
        return _failed(f"{refused}{hint}", 1)


def _failed(why: str, code: int) -> int:
    sys.stderr.write(f"gateway: {''.join(each if each.isprintable() else '?' for each in why)}\n")
    return code

"""`gateway circuit open|close|release` and `gateway reset`: commands to a circuit."""

import argparse
from typing import Any
from urllib.parse import quote

from gateway.operator.client import Client
from gateway.operator.output import write_json, write_lines

_ACTIONS = {"open": "force-open", "close": "force-closed", "release": "release"}


def run(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway circuit`: force a circuit open or closed, or release it. Returns the exit status."""
    body: dict[str, Any] = {"reason": arguments.reason} if arguments.reason else {}
    if arguments.action != "release":
        body["duration"] = arguments.duration
    name = quote(arguments.upstream, safe="")
    done = client.post(f"/api/resilience/circuit-breakers/{name}/{_ACTIONS[arguments.action]}", body)
    if arguments.json:
        write_json(done)
        return 0
    circuit = done["circuit"]
    until = f" until {circuit['forcedUntil']}" if circuit["forcedUntil"] else ""
    held = "held " if circuit["forced"] else ""
    write_lines([f"{done['service']}: {held}{circuit['state']}{until} {where(done['scope'])}"])
    return 0


def reset(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway reset`: forget the figures of an upstream and close its circuit. Returns the exit status."""
    done = client.post(f"/api/resilience/metrics/{quote(arguments.upstream, safe='')}/reset")
    if arguments.json:
        write_json(done)
        return 0
    circuit = f", circuit {done['circuitState']} {where(done['circuit'])}" if done["circuit"] else ""
    write_lines([f"{done['service']}: figures forgotten {where(done['figures'])}{circuit}"])
    return 0


def where(scope: str) -> str:
    """Where an order holds."""
    return "in the whole fleet" if scope == "fleet" else "in this process alone, because the store is away"

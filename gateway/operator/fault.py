"""`gateway fault add|list|remove`: faults on demand."""

import argparse
from typing import Any
from urllib.parse import quote

from gateway.operator.client import Client
from gateway.operator.output import table, write_json, write_lines

PATH = "/api/resilience/faults"


def add(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway fault add`: have attempts at an upstream fail for a while. Returns the exit status."""
    scope: dict[str, Any] = {"upstream": arguments.upstream}
    scope |= {name: value for name in ("route", "endpoint") if (value := getattr(arguments, name))}
    if arguments.clients:
        header, percent = arguments.clients
        scope["clients"] = {"header": header, "percent": percent}
    body: dict[str, Any] = {"scope": scope, "kind": arguments.kind, "percent": arguments.percent}
    body |= {"duration": arguments.duration, "reason": arguments.reason}
    given = {
        "delayMs": None if arguments.delay is None else arguments.delay * 1000,
        "status": arguments.status,
        "bytesPerSecond": arguments.rate,
    }
    body |= {name: value for name, value in given.items() if value is not None}
    made = client.post(PATH, body)
    if arguments.json:
        write_json(made)
        return 0
    share = f"{made['percent']:g}% of the attempts at {made['upstream']}"
    write_lines([f"{made['id']}: {made['does']} for {share} until {made['until']}"])
    return 0


def listed(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway fault list`: the faults of now. Returns the exit status."""
    answer = client.get(PATH)
    if arguments.json:
        write_json(answer)
        return 0
    nothing = "no faults" if answer["enabled"] else "no faults: FAULTS_ENABLED is false"
    write_lines(table(rows(answer)) or [nothing])
    return 0


def remove(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway fault remove`: end one, or all of them. Returns the exit status."""
    path = PATH if arguments.all else f"{PATH}/{quote(arguments.id, safe='')}"
    done = client.delete(path)
    if arguments.json:
        write_json(done)
        return 0
    count = done["removed"]
    write_lines([f"{count} fault{'' if count == 1 else 's'} ended"])
    return 0


def rows(answer: Any) -> list[dict[str, object]]:
    """The faults as lines of a table."""
    return [
        {
            "id": each["id"],
            "upstream": each["upstream"],
            "kind": each["kind"],
            "percent": f"{each['percent']:g}",
            "for": _scope(each),
            "until": each["until"],
            "by": each["by"],
            "reason": each["reason"],
        }
        for each in answer["faults"]
    ]


def _scope(each: Any) -> str:
    parts = [each["route"], each["endpoint"]]
    if each["clientHeader"]:
        parts.append(f"{each['clientPercent']:g}% of {each['clientHeader']}")
    return ", ".join(part for part in parts if part) or "all"

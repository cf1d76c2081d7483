"""`gateway endpoint list|drain|disable|enable`: taking one endpoint of an upstream out of service, and back."""

import argparse
from typing import Any
from urllib.parse import quote

from gateway.operator.circuit import where
from gateway.operator.client import Client
from gateway.operator.output import table, write_json, write_lines


def run(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway endpoint drain`, `disable` or `enable`: take an endpoint out of service or bring it back. Returns the
    exit status."""
    body: dict[str, Any] = {"reason": arguments.reason} if arguments.reason else {}
    if arguments.action != "enable":
        body["duration"] = arguments.duration
    one = f"{quote(arguments.upstream, safe='')}/endpoints/{quote(arguments.endpoint, safe=':')}"
    done = client.post(f"/api/resilience/upstreams/{one}/{arguments.action}", body)
    if arguments.json:
        write_json(done)
        return 0
    each = done["endpoint"]
    until = f" until {each['until']}" if each["until"] else ""
    name = f"{each['upstream']} {each['endpoint']}"
    write_lines([f"{name}: {each['state']}{until} {where(done['scope'])}, {each['inFlight']} in flight"])
    return 0


def listed(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway endpoint list`: every endpoint with its state. Returns the exit status."""
    answer = client.get("/api/resilience/endpoints")
    if arguments.json:
        write_json(answer)
        return 0
    rows = [
        {
            "upstream": each["upstream"],
            "endpoint": each["endpoint"],
            "state": each["state"],
            "healthy": "yes" if each["healthy"] else "no",
            "ejected": "yes" if each["ejected"] else "no",
            "in flight": each["inFlight"],
            "until": each["until"] or "-",
            "reason": each["reason"] or "-",
        }
        for each in answer["endpoints"]
    ]
    write_lines(table(rows))
    return 0

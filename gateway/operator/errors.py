"""`gateway errors`: the latest failed attempts and refusals, newest first."""

import argparse

from gateway.operator.client import Client
from gateway.operator.output import table, write_json, write_lines


def run(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway errors`: the latest errors, a row for each. Returns the exit status."""
    answer = client.get("/api/resilience/errors/recent", count=arguments.count, service=arguments.service)
    if arguments.json:
        write_json(answer)
        return 0
    rows = [
        {
            "time": each["time"],
            "service": each["service"] or "-",
            "category": each["category"],
            "reason": each["reason"],
            "status": each["status"] if each["status"] is not None else "-",
            "attempt": each["attempt"],
            "request": each["requestId"],
            "message": each["message"],
        }
        for each in answer["errors"]
    ]
    write_lines(table(rows) or ["no errors"])
    return 0

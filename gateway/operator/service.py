"""`gateway reload`, `gateway upgrade`: orders to the service as a whole. `gateway check --diff` asks for a dry run."""

import argparse

from gateway.operator.client import Client, RefusedError
from gateway.operator.output import write_json, write_lines


def reload(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway reload`: read the configuration anew. Returns the exit status: 1 where it was refused, or where the
    gateway still does it when the time for its answer is over."""
    return _ordered(client, arguments, "/api/admin/reload", {"dryRun": True} if arguments.dry_run else {})


def upgrade(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway upgrade`: run the code that is installed now. Returns the exit status."""
    return _ordered(client, arguments, "/api/admin/upgrade", {})


def _ordered(client: Client, arguments: argparse.Namespace, path: str, body: dict[str, bool]) -> int:
    try:
        done = client.post(path, body)
    except RefusedError as refused:
        if "problems" not in refused.problem:
            raise
        if arguments.json:
            write_json(refused.problem)
        else:
            write_lines(["refused, and nothing was changed:", *(f"  {line}" for line in refused.problem["problems"])])
        return 1
    if arguments.json:
        write_json(done)
        return 1 if done["underWay"] else 0
    if done["underWay"]:
        # It may still be refused, and nobody knows yet what it changes.
        state = "not known yet, because it is still under way: see `gateway status` and the log"
        write_lines([f"{done['action']}: {state}"])
        return 1
    outcome = "done" if done["done"] else "would change"
    lines = [f"  {line}" for line in done["differences"]] or ["  no setting is another one"]
    write_lines([f"{done['action']}: {outcome}", *lines, *(f"warning: {notice}" for notice in done["notices"])])
    return 0

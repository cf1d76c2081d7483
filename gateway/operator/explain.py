"""`gateway explain`: what would become of a request, without sending it."""

import argparse

from gateway.operator.client import Client
from gateway.operator.output import table, write_json, write_lines


def run(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway explain`: what would become of a request. Returns 1 where it would be refused, else 0."""
    asked = {"method": arguments.method, "client": arguments.client, "host": arguments.host}
    who = {"consumer": arguments.consumer, "tenant": arguments.tenant, "scope": " ".join(arguments.scope) or None}
    asked |= who
    # Whose limits there are, and how full they are, is for operators alone.
    ask = client.look if any(who.values()) else client.get
    answer = ask("/api/resilience/explain", path=arguments.path, **asked)
    refused = answer["outcome"] == "refused"
    if arguments.json:
        write_json(answer)
        return 1 if refused else 0
    request, forwarded, refusal = answer["request"], answer["forwarded"], answer["refusal"]
    lines = [f"{request['method']} {request['path']} from {request['client']}: {answer['outcome']}"]
    if refusal is not None:
        lines.append(f"  {refusal['status']} {refusal['reason']}: {refusal['detail']}")
    if answer["route"] is not None and forwarded is not None:
        where = f"{forwarded['upstream']} as {forwarded['path']} (Host: {forwarded['host']})"
        lines.append(f"  route {answer['route']}, to {where}")
    rows = [{name: step[name] for name in ("policy", "decision", "detail")} for step in answer["steps"]]
    write_lines([*lines, *([""] if rows else []), *table(rows)])
    return 1 if refused else 0

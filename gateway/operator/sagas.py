"""`gateway sagas list|show|retry|cancel|skip|resolve`: runs of workflows."""

import argparse
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.operator.client import Client
from gateway.operator.output import age, more, page, since, table, write_json, write_lines

PATH = "/api/resilience/sagas"


def listed(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway sagas list`: the open runs counted, and a page of runs, the newest first. Returns the exit status."""
    answer = client.get(
        PATH, state=arguments.state, workflow=arguments.workflow, before=arguments.before, count=arguments.count
    )
    if arguments.json:
        write_json(answer)
        return 0
    open_runs = [
        {
            "workflow": each["workflow"],
            "state": each["state"],
            "runs": each["runs"],
            "oldest": age(each["oldestSeconds"]),
            "route": "none any more" if each["orphaned"] else "-",
        }
        for each in answer["workflows"]
    ]
    runs = [
        {
            "run": each["id"],
            "workflow": each["workflow"],
            "state": _state(each),
            "age": since(each["createdTime"]),
            "next": _next(each),
            "reason": each["reason"] or "-",
        }
        for each in answer["sagas"]
    ]
    counted = f"{answer['open']} of {answer['maxOpen']} runs open, {answer['stuck']} of them stuck"
    write_lines([counted, *page(table(open_runs), table(runs) or ["no runs"]), *more(answer)])
    return 0


def shown(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway sagas show`: one run with its steps and events. Returns the exit status."""
    return _run(client.get(_path(arguments)), arguments)


def ordered(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway sagas retry`, `cancel`, `skip` and `resolve`: act on a run, and show it. Returns the exit status."""
    body = {"reason": arguments.reason}
    if arguments.action == "resolve":
        body["outcome"] = arguments.outcome
    return _run(client.post(f"{_path(arguments)}/{arguments.action}", body), arguments)


def _path(arguments: argparse.Namespace) -> str:
    return f"{PATH}/{quote(arguments.id, safe='')}"


def _run(run: Mapping[str, Any], arguments: argparse.Namespace) -> int:
    if arguments.json:
        write_json(run)
        return 0
    head = f"{run['id']}: {_state(run)}, {run['workflow']}, since {run['createdTime']}, next {_next(run)}"
    about = [f"correlation id {run['correlationId']}", *([f"reason: {run['reason']}"] if run["reason"] else [])]
    steps = [
        {
            "step": f"{each['name']}{' (pivot)' if each['pivot'] else ''}",
            "state": each["state"],
            "attempts": each["attempts"],
            "status": each["lastStatus"] or "-",
            "undone by": "a request" if each["compensated"] else "nothing",
            "error": each["lastError"] or "-",
        }
        for each in run["steps"]
    ]
    events = [
        {"time": each["time"], "event": each["kind"], "step": each["step"] or "-", "detail": each["detail"] or "-"}
        for each in run["events"]
    ]
    write_lines([head, *about, *page(table(steps), table(events))])
    return 0


def _state(run: Mapping[str, Any]) -> str:
    marks = [word for word, is_so in (("cancelled", run["cancelled"]), ("no route", run["orphaned"])) if is_so]
    return f"{run['state']} ({', '.join(marks)})" if marks and run["endedTime"] is None else str(run["state"])


def _next(run: Mapping[str, Any]) -> str:
    if run["underWay"]:
        return "now"
    return "-" if run["nextAttemptIn"] is None else f"in {age(run['nextAttemptIn'])}"

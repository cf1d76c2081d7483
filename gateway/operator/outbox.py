"""`gateway outbox list|show|replay`: messages that are delivered at least once."""

import argparse
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from gateway.operator.client import Client
from gateway.operator.output import age, more, page, since, table, write_json, write_lines

PATH = "/api/resilience/outbox"


def listed(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway outbox list`: the messages counted, and a page of them, the newest first. Returns the exit status."""
    answer = client.get(
        PATH, state=arguments.state, target=arguments.target, before=arguments.before, count=arguments.count
    )
    if arguments.json:
        write_json(answer)
        return 0
    targets = [
        {
            "target": each["target"],
            "state": each["state"],
            "messages": each["messages"],
            "oldest": age(each["oldestSeconds"]),
            "route": "none any more" if each["orphaned"] else "-",
        }
        for each in answer["targets"]
    ]
    messages = [
        {
            "message": each["id"],
            "target": each["target"],
            "state": _state(each),
            "attempts": each["attempts"],
            "age": since(each["createdTime"]),
            "next": _next(each),
            "error": each["lastError"] or "-",
        }
        for each in answer["messages"]
    ]
    counted = (
        f"{answer['pending']} of {answer['maxPending']} messages wait, "
        f"{answer['pendingBytes']} of {answer['maxBytes']} bytes; {answer['dead']} dead"
    )
    write_lines([counted, *page(table(targets), table(messages) or ["no messages"]), *more(answer)])
    return 0


def shown(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway outbox show`: one message. Returns the exit status."""
    return _message(client.get(_path(arguments.id)), arguments)


def replay(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway outbox replay`: deliver one message again, or those of a time. Returns the exit status."""
    if arguments.id is not None:
        return _message(client.post(f"{_path(arguments.id)}/replay"), arguments)
    now = time.time()
    body: dict[str, Any] = {"state": arguments.state, "since": now - arguments.since, "until": now - arguments.until}
    if arguments.target is not None:
        body["target"] = arguments.target
    done = client.post(f"{PATH}/replay", body)
    if arguments.json:
        write_json(done)
        return 0
    count = done["replayed"]
    write_lines([f"{count} message{'' if count == 1 else 's'} will be delivered again"])
    return 0


def _path(message_id: str) -> str:
    return f"{PATH}/{quote(message_id, safe='')}"


def _message(message: Mapping[str, Any], arguments: argparse.Namespace) -> int:
    if arguments.json:
        write_json(message)
        return 0
    lines = [
        f"{message['id']}: {_state(message)}, for {message['target']}, {message['size']} bytes",
        f"since {message['createdTime']}, {message['attempts']} attempts, next {_next(message)}",
        f"correlation id {message['correlationId']}",
    ]
    if message["endedTime"]:
        lines.append(f"ended {message['endedTime']}")
    if message["lastError"]:
        lines.append(f"last error: {message['lastError']}")
    write_lines(lines)
    return 0


def _state(message: Mapping[str, Any]) -> str:
    return f"{message['state']} (no route)" if message["orphaned"] else str(message["state"])


def _next(message: Mapping[str, Any]) -> str:
    if message["state"] == "sending":
        return "now"
    return "-" if message["nextAttemptIn"] is None else f"in {age(message['nextAttemptIn'])}"

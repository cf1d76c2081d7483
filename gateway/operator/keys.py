"""`gateway keys create|rotate|revoke|list`: API keys in Redis, through a running gateway.

A key is made here, on the operator's machine, and printed once. The gateway gets its SHA-256, so the key travels
nowhere but from this terminal to its owner.
"""

import argparse
import base64
import hashlib
import secrets
import time
from datetime import UTC, datetime
from typing import Any, NamedTuple

from gateway.operator.client import Client, RefusedError
from gateway.operator.output import table, write_json, write_lines

_PATH = "/api/admin/keys"
_ID_LENGTH = 12
_ID_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_SECRET_BYTES = 32
_NO_TENANT = "No tenant is named: unless the file names one for the consumer, no tier limits it."


class _New(NamedTuple):
    text: str
    id: str
    sha256: str


def create(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway keys create`: a new key for a consumer. Returns the exit status."""
    new = _made()
    if arguments.yaml:
        _print_yaml(new, arguments)
        return 0
    body = {"consumer": arguments.consumer, "tenant": arguments.tenant, "scopes": arguments.scope}
    _add(client, new, {**body, "lifetime": arguments.lifetime})
    _print(new, arguments, arguments.consumer, "" if arguments.tenant else _NO_TENANT)
    return 0


def rotate(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway keys rotate`: a new key for the consumer of another one, which then ends. Returns the exit status."""
    old = next((each for each in client.look(_PATH)["keys"] if each["id"] == arguments.id), None)
    if old is None:
        raise RefusedError(404, {"reason": "unknown_key", "detail": f"Redis has no key with the id {arguments.id}."})
    new = _made()
    _add(client, new, {"consumer": old["consumer"], "tenant": old["tenant"], "scopes": old["scopes"]})
    client.post(f"{_PATH}/{arguments.id}/expire", {"grace": arguments.grace})
    _print(new, arguments, old["consumer"], f"{arguments.id} is good for another {arguments.grace:g} s.")
    return 0


def revoke(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway keys revoke`: end a key now. Returns the exit status."""
    done = client.post(f"{_PATH}/{arguments.id}/revoke")
    if arguments.json:
        write_json(done)
    else:
        write_lines([f"{done['id']}: revoked"])
    return 0


def listed(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway keys list`: every key, or those of one consumer. Returns the exit status."""
    answer = client.look(_PATH)
    keys = [each for each in answer["keys"] if arguments.consumer in {None, each["consumer"]}]
    if arguments.json:
        write_json({"count": len(keys), "keys": keys})
        return 0
    rows = [
        {
            "id": each["id"],
            "consumer": each["consumer"],
            "tenant": each["tenant"] or "-",
            "scopes": " ".join(each["scopes"]) or "-",
            "created": each["createdTime"],
            "good until": each["notAfter"] or "for ever",
            "good": "yes" if each["good"] else "no",
        }
        for each in keys
    ]
    write_lines(table(rows) or ["no keys"])
    return 0


def _made() -> _New:
    """A key of 256 random bits, in the form that `gateway.identity.credentials` reads."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
    secret = base64.urlsafe_b64encode(secrets.token_bytes(_SECRET_BYTES)).rstrip(b"=").decode()
    text = f"gw_{key_id}_{secret}"
    return _New(text, key_id, hashlib.sha256(text.encode()).hexdigest())


def _add(client: Client, new: _New, body: dict[str, Any]) -> None:
    given = {name: value for name, value in body.items() if value is not None}
    client.post(_PATH, {"id": new.id, "sha256": new.sha256, **given})


def _print(new: _New, arguments: argparse.Namespace, consumer: str, more: str = "") -> None:
    if arguments.json:
        write_json({"id": new.id, "key": new.text, "consumer": consumer})
        return
    write_lines([f"key {new.id} of {consumer}, shown this once:", "", f"  {new.text}", *(["", more] if more else [])])


def _print_yaml(new: _New, arguments: argparse.Namespace) -> None:
    lines = ["consumers:", f"  {arguments.consumer}:"]
    if arguments.tenant:
        lines.append(f"    tenant: {arguments.tenant}")
    if arguments.scope:
        lines.append(f"    scopes: [{', '.join(arguments.scope)}]")
    lines += ["    keys:", f"      - id: {new.id}", f"        sha256: {new.sha256}"]
    if arguments.lifetime is not None:
        until = datetime.fromtimestamp(time.time() + arguments.lifetime, UTC).isoformat(timespec="seconds")
        lines.append(f'        not_after: "{until}"')
    write_lines([f"# key {new.id} of {arguments.consumer}, shown this once: {new.text}", *lines])

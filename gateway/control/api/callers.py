"""Tenants with what they use, and API keys. All of it is for operators alone: it says who the customers are."""

import re
from collections.abc import Awaitable
from typing import Any, TypeVar

from gateway.control.api import audit
from gateway.control.api.operation import Call, Operation
from gateway.control.models.callers import AddKey, ExpireKey, Key, KeyCommand, Keys, Tenant, Tenants
from gateway.control.models.shapes import Nothing
from gateway.control.parts import ControlledGateway
from gateway.control.ports.callers import CallersView, KeysUnavailable, NewKeyView
from gateway.control.serving.problem import RefusalError
from gateway.telemetry.log.render import rfc3339

TENANTS = "/api/resilience/tenants"
KEYS = "/api/admin/keys"
_ID = re.compile(r"[a-z0-9]{8,32}")
_T = TypeVar("_T")


def operations(gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    """The operations on tenants and keys. A gateway without authentication has none."""
    callers = gateway.callers
    return [] if callers is None else [_tenants(callers), *_keys(callers, gateway)]


def _tenants(callers: CallersView) -> Operation[Any, Any]:
    async def listed(_: Call[Nothing, Nothing]) -> Tenants:
        """What each tenant uses."""
        found = sorted(callers.tenants, key=lambda each: (-each.used, each.tenant))
        tenants = [
            Tenant(
                tenant=each.tenant,
                tier=each.tier or None,
                used_today=each.used,
                quota_per_day=each.quota,
                in_flight=each.in_flight,
                concurrency=each.concurrency,
                requests=each.requests,
                refused=each.refused,
            )
            for each in found
        ]
        return Tenants(day=callers.day, count=len(tenants), tenants=tenants)

    return Operation(
        "GET", TENANTS, "listTenants", "What each tenant uses", Tenants, listed, Nothing, Nothing, private=True
    )


def _keys(callers: CallersView, gateway: ControlledGateway) -> list[Operation[Any, Any]]:
    async def listed(_: Call[Nothing, Nothing]) -> Keys:
        """Every key in Redis."""
        keys = [
            Key(
                id=each.id,
                consumer=each.consumer,
                tenant=each.tenant or None,
                scopes=list(each.scopes),
                created_time=rfc3339(each.created_at),
                not_after=None if each.not_after is None else rfc3339(each.not_after),
                good=each.good,
            )
            for each in await _available(callers.keys())
        ]
        return Keys(count=len(keys), keys=keys)

    async def add(call: Call[Nothing, AddKey]) -> KeyCommand:
        """Add a key. Raises `RefusalError` (409) where the consumer has two already."""
        body = call.body
        until = None if body.lifetime is None else gateway.clock() + body.lifetime
        key = NewKeyView(body.id, body.sha256, body.consumer, body.tenant or "", tuple(body.scopes), until)
        if not await _available(callers.add_key(key)):
            detail = "The consumer has two keys already, or the id is taken: revoke one, or wait until it has ended."
            raise RefusalError(409, detail)
        return _done(call, "create", body.id, body.consumer, body.lifetime)

    async def expire(call: Call[Nothing, ExpireKey]) -> KeyCommand:
        """Let a key end a while from now."""
        key_id = _id(call)
        if not await _available(callers.expire_key(key_id, gateway.clock() + call.body.grace)):
            raise _unknown(key_id)
        return _done(call, "expire", key_id, None, call.body.grace)

    async def revoke(call: Call[Nothing, Nothing]) -> KeyCommand:
        """End a key now."""
        key_id = _id(call)
        if not await _available(callers.revoke_key(key_id)):
            raise _unknown(key_id)
        return _done(call, "revoke", key_id, None, None)

    one = f"{KEYS}/{{key}}"
    return [
        Operation(
            "GET", KEYS, "listKeys", "The API keys in Redis", Keys, listed, Nothing, Nothing,
            private=True, refusals=(503,),
        ),
        Operation(
            "POST", KEYS, "addKey", "Add an API key that somebody has made", KeyCommand, add, Nothing, AddKey,
            body_required=True, changes=True, refusals=(409, 503),
        ),
        Operation(
            "POST", f"{one}/expire", "expireKey", "Let an API key end a while from now", KeyCommand, expire, Nothing,
            ExpireKey, body_required=True, changes=True, refusals=(404, 503),
        ),
        Operation(
            "POST", f"{one}/revoke", "revokeKey", "End an API key now", KeyCommand, revoke, Nothing, Nothing,
            changes=True, refusals=(404, 503),
        ),
    ]  # fmt: skip


async def _available(asked: Awaitable[_T]) -> _T:
    try:
        return await asked
    except KeysUnavailable as why:
        raise RefusalError(503, str(why), retry_after=1.0) from why


def _id(call: Call[Any, Any]) -> str:
    key_id = call.request.match_info["key"]
    if not _ID.fullmatch(key_id):
        raise RefusalError(404, "The id of a key is 8 to 32 lower-case letters and digits.", reason="unknown_key")
    return key_id


def _unknown(key_id: str) -> RefusalError:
    return RefusalError(404, f"Redis has no key with the id {key_id}.", reason="unknown_key")


def _done(call: Call[Any, Any], action: str, key_id: str, consumer: str | None, duration: float | None) -> KeyCommand:
    audit.record(
        f"{action} key {key_id}", call, before=None, after=consumer or action, scope="fleet", duration=duration
    )
    return KeyCommand(action=action, id=key_id, consumer=consumer)

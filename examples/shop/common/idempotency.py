"""Idempotency keys of a service that takes part in orders (draft-ietf-httpapi-idempotency-key-header).

The key is claimed in the transaction of the effect, so that there is no moment at which one is there without the other:
a crash keeps both or neither. A second request with the key waits for the first one's commit, in SQLite for the write
lock and in PostgreSQL for the row, and then gets the stored answer. Refusals are stored too: otherwise a late copy of a
request that was refused could still succeed, and nobody would know.

Keys are kept for a day. That is longer than anybody repeats a request here; after it the state of the order itself
(a payment, a reservation) still stops a second effect.
"""

import hashlib
import json
import time
from typing import Any

from aiohttp import web

from shop.common.answers import Answer, Refused
from shop.common.database import Database, Transaction

KEEP_SECONDS = 86_400.0

SCHEMA = """
    CREATE TABLE IF NOT EXISTS idempotency_keys (
        key TEXT PRIMARY KEY,
        fingerprint TEXT NOT NULL,
        status BIGINT,
        body TEXT,
        expires_at DOUBLE PRECISION NOT NULL
    )
"""


def key_of(request: web.Request) -> str | None:
    """The key without its quotes, None where there is none; `Refused` where it cannot be one."""
    values = request.headers.getall("Idempotency-Key", [])
    if not values:
        return None
    key = values[0].strip()
    if len(key) >= 2 and key[0] == key[-1] == '"':
        key = key[1:-1]
    if len(values) > 1 or not 1 <= len(key) <= 255 or not key.isascii() or not key.isprintable():
        raise Refused(400, "idempotency_key_malformed", "Idempotency-Key must be one of 1 to 255 visible characters")
    return key


def required_key_of(request: web.Request) -> str:
    """The key; `Refused` without one."""
    key = key_of(request)
    if key is None:
        raise Refused(400, "idempotency_key_missing", "this request needs an Idempotency-Key")
    return key


def fingerprint(request: web.Request, body: dict[str, Any]) -> str:
    """Tells whether two requests with one key are the same request."""
    text = json.dumps([request.method, request.path, body], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


async def claim(transaction: Transaction, key: str, print_of_request: str) -> Answer | None:
    """None for the first request with the key, which must `store` its answer in the same transaction. Every later one
    gets the stored answer; `Refused` if it is another request."""
    first = await transaction.execute(
        "INSERT INTO idempotency_keys (key, fingerprint, expires_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        key,
        print_of_request,
        time.time() + KEEP_SECONDS,
    )
    if first:
        return None
    [stored] = await transaction.fetch("SELECT fingerprint, status, body FROM idempotency_keys WHERE key = $1", key)
    if stored["fingerprint"] != print_of_request:
        raise Refused(422, "idempotency_key_reused", "this Idempotency-Key belongs to another request")
    return Answer(stored["status"], json.loads(stored["body"]), replayed=True)


async def store(transaction: Transaction, key: str, answer: Answer) -> None:
    """Keep the answer for every later request with the key."""
    await transaction.execute(
        "UPDATE idempotency_keys SET status = $2, body = $3 WHERE key = $1", key, answer.status, json.dumps(answer.body)
    )


async def forget_expired(database: Database) -> int:
    """Delete the keys whose day is over; how many."""
    async with database.transaction() as transaction:
        return await transaction.execute("DELETE FROM idempotency_keys WHERE expires_at < $1", time.time())

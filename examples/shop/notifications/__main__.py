"""`python -m shop.notifications`: the service that tells customers, on port 8004.

    POST /events    {"type", "order_id", "customer", ...}, with an Idempotency-Key
    GET  /events    the last hundred, the newest first; ?order_id= or ?customer= picks

Events come at least once. The table has one row for each key, so a repeated one tells nobody anything again.
"""

import json
import sys

from aiohttp import web

from shop.common import bodies, idempotency
from shop.common.answers import Answer
from shop.common.service import Service, open_service, run
from shop.common.settings import Settings

SCHEMA = (
    """
    CREATE TABLE IF NOT EXISTS events (
        id TEXT PRIMARY KEY,
        type TEXT NOT NULL,
        order_id TEXT NOT NULL,
        customer TEXT NOT NULL,
        body TEXT NOT NULL,
        received_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
    )
    """,
)


class Notifications:
    """The endpoints."""

    def __init__(self, service: Service) -> None:
        self._database = service.database
        self._events = service.counter("events", "Events that have come, repeated ones too.", ("repeated",))
        service.app.router.add_post("/events", self.receive)
        service.app.router.add_get("/events", self.show)

    async def receive(self, request: web.Request) -> web.Response:
        """202 once it is durable: whoever sends it may forget it then."""
        key = idempotency.required_key_of(request)
        body = await bodies.json_object(request)
        kind, order_id, customer = (bodies.text(body, name) for name in ("type", "order_id", "customer"))
        async with self._database.transaction() as transaction:
            answer = await idempotency.claim(transaction, key, idempotency.fingerprint(request, body))
            if answer is None:
                await transaction.execute(
                    "INSERT INTO events (id, type, order_id, customer, body) VALUES ($1, $2, $3, $4, $5)"
                    " ON CONFLICT DO NOTHING",
                    key,
                    kind,
                    order_id,
                    customer,
                    json.dumps(body),
                )
                answer = Answer(202, {"id": key})
                await idempotency.store(transaction, key, answer)
        self._events.labels(str(answer.replayed).lower()).inc()
        return answer.response()

    async def show(self, request: web.Request) -> web.Response:
        """What customers were told."""
        order_id, customer = request.query.get("order_id"), request.query.get("customer")
        rows = await self._database.fetch(
            "SELECT id, body FROM events WHERE order_id = COALESCE($1, order_id) AND customer = COALESCE($2, customer)"
            " ORDER BY id DESC LIMIT 100",
            order_id,
            customer,
        )
        return Answer(200, {"events": [{"id": row["id"], **json.loads(row["body"])} for row in rows]}).response()


async def make(settings: Settings) -> Service:
    """The service, ready to be run."""
    service = await open_service(settings, SCHEMA)
    Notifications(service)
    return service


if __name__ == "__main__":
    sys.exit(run("notifications", 8004, make))

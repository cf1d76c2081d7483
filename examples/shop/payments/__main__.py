"""`python -m shop.payments`: the service that takes the money, on port 8002.

POST /payments                  charge an order: {"order_id", "amount", "card"}, with an Idempotency-Key
POST /payments/{order_id}/void  take it back, also if it has not come yet
GET  /payments/{order_id}
"""

import random
import sys

from aiohttp import web

from shop.common import bodies, idempotency
from shop.common.answers import Answer, Refused
from shop.common.chaos import Chaos, injected
from shop.common.service import Service, open_service, run
from shop.common.settings import Settings
from shop.payments import ledger

MOST_CENTS = 100_000_000


class Payments:
    """The endpoints."""

    def __init__(self, service: Service, chaos: Chaos) -> None:
        self._database = service.database
        self._chaos = chaos
        self._payments = service.counter("payments", "Charges and voids that were answered.", ("kind", "status"))
        router = service.app.router
        router.add_post("/payments", self.charge)
        router.add_post("/payments/{order_id}/void", self.void)
        router.add_get("/payments/{order_id}", self.show)

    async def charge(self, request: web.Request) -> web.Response:
        """A failure that was asked for strikes before or after the money has moved, as real ones do: whoever gets a
        503 cannot know which."""
        key = idempotency.required_key_of(request)
        body = await bodies.json_object(request)
        order_id, card = bodies.text(body, "order_id"), bodies.text(body, "card")
        amount = bodies.number(body, "amount", MOST_CENTS)
        await self._chaos.delay()
        fails = await self._chaos.fails()
        if fails and random.random() < 0.5:
            raise injected()
        async with self._database.transaction() as transaction:
            print_of_request = idempotency.fingerprint(request, body)
            answer = await idempotency.claim(transaction, key, print_of_request)
            if answer is None:
                answer = await ledger.charge(transaction, order_id, amount, card)
                await idempotency.store(transaction, key, answer)
        if fails:
            raise injected()
        return self._counted("charge", answer)

    async def void(self, request: web.Request) -> web.Response:
        """Repeating it changes nothing, so it needs no key to be safe."""
        await self._chaos.delay()
        if await self._chaos.fails():
            raise injected()
        async with self._database.transaction() as transaction:
            answer = await ledger.void(transaction, request.match_info["order_id"])
        return self._counted("void", answer)

    async def show(self, request: web.Request) -> web.Response:
        """The payment of an order."""
        order_id = request.match_info["order_id"]
        rows = await self._database.fetch("SELECT status, amount FROM payments WHERE order_id = $1", order_id)
        if not rows:
            raise Refused(404, "not_found", f"there is no payment of {order_id}")
        return Answer(200, {"order_id": order_id, **rows[0]}).response()

    def _counted(self, kind: str, answer: Answer) -> web.Response:
        self._payments.labels(kind, str(answer.status)).inc()
        return answer.response()


async def make(settings: Settings) -> Service:
    """The service, ready to be run."""
    service = await open_service(settings, ledger.SCHEMA)
    chaos = Chaos(settings.name, settings.redis_url)
    chaos.add_routes(service.app)
    service.app.on_cleanup.append(lambda _: chaos.close())
    Payments(service, chaos)
    return service


if __name__ == "__main__":
    sys.exit(run("payments", 8002, make))

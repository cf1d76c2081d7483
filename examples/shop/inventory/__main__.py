"""`python -m shop.inventory`: the service that has the goods, on port 8003.

GET  /products                          what there is
POST /products/{sku}/receive            more of it: {"quantity"}
POST /reservations                      reserve for an order: {"order_id", "items"}, with an Idempotency-Key
POST /reservations/{order_id}/release   give it back, also if it has not been reserved yet
"""

import asyncio
import sys

from aiohttp import web

from shop.common import bodies, idempotency
from shop.common.answers import Answer, Refused
from shop.common.chaos import Chaos, injected
from shop.common.service import Service, open_service, run
from shop.common.settings import Settings
from shop.inventory import stock


class Inventory:
    """The endpoints."""

    def __init__(self, service: Service, chaos: Chaos) -> None:
        self._database = service.database
        self._chaos = chaos
        self._reservations = service.counter("reservations", "Answered requests.", ("kind", "status"))
        router = service.app.router
        router.add_get("/products", self.products)
        router.add_post("/products/{sku}/receive", self.receive)
        router.add_post("/reservations", self.reserve)
        router.add_post("/reservations/{order_id}/release", self.release)

    async def products(self, _: web.Request) -> web.Response:
        """All of them."""
        rows = await self._database.fetch("SELECT sku, name, price, quantity FROM products ORDER BY sku")
        return Answer(200, {"products": rows}).response()

    async def receive(self, request: web.Request) -> web.Response:
        """Goods have come."""
        sku, body = request.match_info["sku"], await bodies.json_object(request)
        async with self._database.transaction() as transaction:
            changed = await stock.receive(transaction, sku, bodies.number(body, "quantity", 1_000_000))
        if not changed:
            raise Refused(404, "not_found", f"there is no product {sku}")
        return Answer(200, changed[0]).response()

    async def reserve(self, request: web.Request) -> web.Response:
        """Contention that was asked for holds the locks of the transaction: others really wait for them."""
        key = idempotency.required_key_of(request)
        body = await bodies.json_object(request)
        order_id, wanted = bodies.text(body, "order_id"), bodies.items(body)
        chaos = await self._chaos.settings()
        if await self._chaos.fails():
            raise injected()
        async with self._database.transaction() as transaction:
            print_of_request = idempotency.fingerprint(request, body)
            answer = await idempotency.claim(transaction, key, print_of_request)
            if answer is None:
                answer = await stock.reserve(transaction, order_id, wanted)
                await asyncio.sleep(chaos["lock_contention_ms"] / 1000)
                await idempotency.store(transaction, key, answer)
        return self._counted("reserve", answer)

    async def release(self, request: web.Request) -> web.Response:
        """Repeating it changes nothing, so it needs no key to be safe."""
        if await self._chaos.fails():
            raise injected()
        async with self._database.transaction() as transaction:
            answer = await stock.release(transaction, request.match_info["order_id"])
        return self._counted("release", answer)

    def _counted(self, kind: str, answer: Answer) -> web.Response:
        self._reservations.labels(kind, str(answer.status)).inc()
        return answer.response()


async def make(settings: Settings) -> Service:
    """The service, ready to be run."""
    service = await open_service(settings, stock.SCHEMA)
    chaos = Chaos(settings.name, settings.redis_url)
    chaos.add_routes(service.app)
    service.app.on_cleanup.append(lambda _: chaos.close())
    Inventory(service, chaos)
    return service


if __name__ == "__main__":
    sys.exit(run("inventory", 8003, make))

"""A running shop as tests use it: requests to any of its processes, and its books."""

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from shop.common.connect import connect
from shop.common.ids import new_id
from shop.drills.audit import Books, audit
from shop.processes import Ports, Process, Shop

from tests.support.waiting import PATIENCE


class OpenShop:
    """`shop` has the processes. Every answer is (status, JSON); a broken connection raises aiohttp.ClientError."""

    def __init__(self, ports: Ports, directory: Path, environment: Mapping[str, str]) -> None:
        self.ports = ports
        self.directory = directory
        self.shop = Shop(ports, directory, environment, logs=directory)
        self._session: aiohttp.ClientSession | None = None

    async def open(self) -> None:
        """Start it and wait until it is healthy."""
        await self.shop.start()
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PATIENCE))

    async def close(self) -> None:
        """Stop it."""
        if self._session is not None:
            await self._session.close()
        for process in self.shop.processes.values():
            await process.stop()

    async def request(
        self, service: str, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """To one of the five by name."""
        return await self.request_at(getattr(self.ports, service), method, path, body, headers)

    async def request_at(
        self, port: int, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """To whoever listens there."""
        assert self._session is not None
        url = f"http://127.0.0.1:{port}{path}"
        async with self._session.request(method, url, json=body, headers=headers) as answer:
            return answer.status, await answer.json(content_type=None)

    async def order(
        self, customer: str, key: str | None = None, *, sku: str = "coffee", quantity: int = 1, card: str = "tok_ok"
    ) -> tuple[int, Any]:
        """Place one through the gateway, to which all customers of a test have one address: no two may use one key."""
        body = {"customer": customer, "items": [{"sku": sku, "quantity": quantity}], "card": card}
        headers = {"Idempotency-Key": key} if key is not None else None
        return await self.request("gateway", "POST", "/orders", body, headers)

    async def order_until_decided(self, customer: str, key: str) -> Any:
        """As a customer does it who gets no answer: the same order with the same key until there is a decision."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with contextlib.suppress(aiohttp.ClientError):
                status, order = await self.order(customer, key)
                if status == 201:
                    return order
                assert status in {409, 429, 502, 503, 504}, order
            await asyncio.sleep(0.1)
        raise AssertionError(f"no decision on {key} within {PATIENCE} s")

    async def wait_until_well(self) -> None:
        """Until every circuit is closed; orders are the requests that try the open ones."""
        deadline = time.monotonic() + PATIENCE
        while True:
            await self.order_until_decided("prober", new_id("prober"))
            _, circuits = await self.request("gateway", "GET", "/status/breakers")
            if all(circuit["state"] == "closed" for circuit in circuits.values()):
                return
            assert time.monotonic() < deadline, circuits
            await asyncio.sleep(0.1)

    async def steps(self, customer: str) -> list[tuple[str, str]]:
        """How far each order of the customer is with its stock and its payment, as the orders service has noted it."""
        database = await connect(self.shop.urls["orders"])
        try:
            rows = await database.fetch("SELECT stock, payment FROM orders WHERE customer = $1 ORDER BY id", customer)
        finally:
            await database.close()
        return [(row["stock"], row["payment"]) for row in rows]

    async def wait_for_steps(self, customer: str, *expected: tuple[str, str]) -> None:
        """Until the orders of the customer are that far."""
        deadline = time.monotonic() + PATIENCE
        while (found := await self.steps(customer)) != list(expected):
            assert time.monotonic() < deadline, f"{found} and not {expected} within {PATIENCE} s"
            await asyncio.sleep(0.02)

    async def text(self, service: str, path: str) -> str:
        """The body of a GET."""
        assert self._session is not None
        async with self._session.get(f"http://127.0.0.1:{getattr(self.ports, service)}{path}") as answer:
            return await answer.text()

    async def metric(self, service: str, series: str) -> float:
        """The value of a series, labels included; 0 if it is not there yet."""
        lines = (await self.text(service, "/metrics")).splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{series} ")), 0.0)

    async def chaos(self, service: str, **settings: float) -> None:
        """Set some of a service's settings."""
        status, _ = await self.request(service, "PUT", "/chaos/config", settings)
        assert status == 200

    async def restart(self, name: str) -> None:
        """Start a process that has ended, and wait until it is healthy."""
        await self.shop.processes[name].start()
        await self.shop.processes[name].wait_ready()

    def another(self, name: str, port: int) -> Process:
        """A second process of a service, with the same database."""
        return self.shop.service(name, port, self.directory / f"{name}-{port}.log")

    async def books(self) -> Books:
        """Of all orders, once they are settled. They agree, or the test fails here."""
        found = await audit(self.shop.urls)
        assert found.problems == []
        return found

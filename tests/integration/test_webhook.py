"""Alerts delivered to a real HTTP server that fails in the ways that servers fail."""

import asyncio
import hashlib
import hmac
import json
import random
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from gateway.telemetry.alerts import webhook
from gateway.telemetry.alerts.alerts import Alert
from gateway.telemetry.alerts.webhook import CAPACITY, Webhook

SECRET = "a secret that both sides know"


class Receiver:
    """Answers with the statuses it is given, the last one for ever. 0 hangs up, -1 does not answer."""

    def __init__(self) -> None:
        self.statuses = [204]
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.url = ""
        self._changed = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((dict(request.headers), await request.read()))
        self._changed.set()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        if status == 0:
            assert request.transport is not None
            request.transport.abort()
        if status == -1:
            await asyncio.sleep(30)
        headers = {"Location": self.url + "/elsewhere"} if 300 <= status < 400 else {}
        return web.Response(status=max(200, status), headers=headers)

    async def received(self, count: int) -> None:
        async with asyncio.timeout(30):
            while len(self.requests) < count:
                self._changed.clear()
                await self._changed.wait()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", found.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    found.url = f"http://127.0.0.1:{port}/alerts"
    yield found
    await runner.cleanup()


def sender(receiver: Receiver, secret: str | None = SECRET, timeout: float = 5.0) -> Webhook:
    source = {"gateway": "edge", "environment": "test"}
    hook = Webhook(receiver.url, secret, source, random.Random(7), timeout=timeout, base_delay=0.001)
    hook.start()
    return hook


def alert(message: str = "orders fails") -> Alert:
    return Alert("a1", "circuit_open/orders", "circuit_open", "orders", "critical", message, 1.7e9, 1.7e9 + 15)


async def settled(hook: Webhook) -> None:
    async with asyncio.timeout(30):
        await hook._idle.wait()


async def test_a_delivery_says_everything_and_can_be_verified(receiver: Receiver) -> None:
    hook = sender(receiver)
    hook.deliver("raised", alert())
    await settled(hook)
    await hook.stop()
    ((headers, body),) = receiver.requests
    assert json.loads(body) == {
        "event": "raised",
        "gateway": "edge",
        "environment": "test",
        "alert": {
            "id": "a1",
            "key": "circuit_open/orders",
            "kind": "circuit_open",
            "service": "orders",
            "severity": "critical",
            "message": "orders fails",
            "first_at": "2023-11-14T22:13:20.000Z",
            "last_at": "2023-11-14T22:13:35.000Z",
            "count": 1,
            "state": "active",
            "resolved_at": None,
        },
    }
    timestamp = headers["X-Gateway-Timestamp"]
    assert abs(int(timestamp) - time.time()) < 60
    # As docs/errors-and-alerts.md tells the receiver to do it.
    expected = hmac.new(SECRET.encode(), f"{timestamp}.".encode() + body, hashlib.sha256).hexdigest()
    assert hmac.compare_digest(headers["X-Gateway-Signature"], f"sha256={expected}")
    assert headers["Content-Type"] == "application/json"
    assert (hook.sent, hook.failed, hook.retried) == (1, 0, 0)


async def test_without_a_secret_there_is_no_signature(receiver: Receiver) -> None:
    hook = sender(receiver, None)
    hook.deliver("resolved", alert())
    await settled(hook)
    await hook.stop()
    assert "X-Gateway-Signature" not in receiver.requests[0][0]


@pytest.mark.parametrize("trouble", [[500], [503, 502], [429], [408], [0], [0, 500, 0]])
async def test_trouble_that_passes_is_tried_again(receiver: Receiver, trouble: list[int]) -> None:
    receiver.statuses = [*trouble, 200]
    hook = sender(receiver)
    hook.deliver("raised", alert())
    await settled(hook)
    await hook.stop()
    assert (hook.sent, hook.failed, hook.retried) == (1, 0, len(trouble))
    identities = {headers["X-Gateway-Delivery"] for headers, _ in receiver.requests}
    assert (len(receiver.requests), len(identities)) == (len(trouble) + 1, 1)


async def test_a_server_that_does_not_answer_is_given_up_in_time(receiver: Receiver) -> None:
    receiver.statuses = [-1, 200]
    hook = sender(receiver, timeout=2.0)
    hook.deliver("raised", alert())
    await settled(hook)
    await hook.stop()
    assert (hook.sent, hook.retried) == (1, 1)


@pytest.mark.parametrize(("status", "attempts"), [(500, webhook.ATTEMPTS), (400, 1), (401, 1), (404, 1), (302, 1)])
async def test_what_will_not_do_is_given_up(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, status: int, attempts: int
) -> None:
    receiver.statuses = [status]
    hook = sender(receiver)
    hook.deliver("raised", alert())
    await settled(hook)
    receiver.statuses = [200]
    hook.deliver("resolved", alert())
    await settled(hook)
    await hook.stop()
    assert len(receiver.requests) == attempts + 1, "and the next one is not held up for ever"
    assert (hook.sent, hook.failed) == (1, 1)
    (line,) = [record.message for record in caplog.records if "could not be delivered" in record.message]
    assert str(status) in line
    assert "127.0.0.1" not in line


async def test_a_receiver_that_is_not_there_costs_nobody_anything() -> None:
    hook = Webhook("http://127.0.0.1:1/", SECRET, {}, random.Random(7), base_delay=0.001)
    hook.start()
    began = time.perf_counter()
    for _ in range(CAPACITY + 50):
        hook.deliver("raised", alert())
    assert time.perf_counter() - began < 10.0
    assert hook.failed == 50, "the oldest of too many"
    assert len(hook._waiting) == CAPACITY
    await hook.stop(grace=0.01)
    assert hook.sent == 0
    assert hook.failed == CAPACITY + 50


async def test_deliveries_come_in_order_and_stopping_waits_for_them(receiver: Receiver) -> None:
    receiver.statuses = [500, 200]
    hook = sender(receiver)
    for number in range(10):
        hook.deliver("raised", alert(str(number)))
    await hook.stop(grace=5.0)
    messages: list[Any] = [json.loads(body)["alert"]["message"] for _, body in receiver.requests]
    assert messages == ["0", *map(str, range(10))]
    assert hook.sent == 10

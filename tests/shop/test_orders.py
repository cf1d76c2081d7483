"""An order that works, and each way in which one does not."""

import asyncio
import re
import subprocess
from typing import Any

import pytest
from shop.processes import PACKAGE

from tests.shop.open_shop import OpenShop

pytestmark = pytest.mark.asyncio(loop_scope="module")

TEA = [{"sku": "tea", "quantity": 1}]
WRONG_BODIES: list[tuple[Any, str]] = [
    (None, "JSON"),
    ([], "object"),
    ({"customer": "", "items": TEA, "card": "tok_ok"}, "customer"),
    ({"customer": "eve", "items": [], "card": "tok_ok"}, "items"),
    ({"customer": "eve", "items": [{"sku": "tea", "quantity": 0}], "card": "tok_ok"}, "quantity"),
    ({"customer": "eve", "items": [{"sku": "tea", "quantity": True}], "card": "tok_ok"}, "quantity"),
    ({"customer": "eve", "items": [{"quantity": 1}], "card": "tok_ok"}, "sku"),
    ({"customer": "eve", "items": TEA, "card": 7}, "card"),
]


async def test_an_order_is_completed_or_says_why_not(shop: OpenShop) -> None:
    status, order = await shop.order("ada", quantity=2)
    assert (status, order["status"], order["amount"], order["compensation"]) == (201, "completed", 1780, "none")
    assert await shop.request("gateway", "GET", f"/orders/{order['id']}") == (200, order)
    status, declined = await shop.order("ada", card="tok_declined")
    assert (status, declined["status"], declined["reason"]) == (201, "payment_failed", "card_declined")
    bought = [(await shop.order("ada", sku="teapot", quantity=2))[1]["status"] for _ in range(2)]
    assert bought == ["completed", "out_of_stock"]
    assert (await shop.order("ada", sku="piano"))[1]["status"] == "out_of_stock"
    received = await shop.request("inventory", "POST", "/products/teapot/receive", {"quantity": 1})
    assert received == (200, {"sku": "teapot", "quantity": 2})
    assert (await shop.order("ada", sku="teapot", quantity=2))[1]["status"] == "completed"
    books = await shop.books()
    assert [row["stock"] for row in books.orders if row["id"] == declined["id"]] == ["released"]
    _, told = await shop.request("gateway", "GET", "/events?customer=ada")
    kinds = ["completed", "out_of_stock", "out_of_stock", "completed", "payment_failed", "completed"]
    assert [event["type"] for event in told["events"]] == [f"order.{kind}" for kind in kinds]
    assert 0 < await shop.metric("orders", "order_success_rate") < 1


async def test_one_id_finds_an_order_in_the_logs(shop: OpenShop) -> None:
    body = {"customer": "dan", "items": TEA, "card": "tok_declined"}
    await shop.request("gateway", "POST", "/orders", body, {"X-Correlation-ID": "find-me"})
    await shop.books()
    log = (shop.directory / "orders.log").read_text(encoding="utf-8")
    [line] = [line for line in log.splitlines() if line.endswith("correlation_id=find-me")]
    assert "is compensated: stock released, payment refused" in line


async def test_an_order_is_placed_once_for_each_key(shop: OpenShop) -> None:
    first, again = await shop.order("bob", "one"), await shop.order("bob", '"one"')
    assert first == again
    status, refused = await shop.order("bob", "one", quantity=3)
    assert (status, refused["reason"]) == (422, "idempotency_key_reused")
    assert await shop.metric("gateway", 'idempotency_conflicts_total{route="orders"}') >= 1
    at_once = await asyncio.gather(*(shop.order("bob", "two") for _ in range(10)))
    assert len({(status, order["id"]) for status, order in at_once}) == 1
    await shop.order("bob")
    assert sum(row["customer"] == "bob" for row in (await shop.books()).orders) == 3


async def test_the_orders_service_honours_keys_itself(shop: OpenShop) -> None:
    """For whoever comes past the gateway, and for a gateway that does not know what has become of a request."""
    body: dict[str, Any] = {"customer": "gil", "items": TEA, "card": "tok_ok"}
    key = {"Idempotency-Key": "one"}
    first = await shop.request("orders", "POST", "/orders", body, key)
    assert first == await shop.request("orders", "POST", "/orders", body, key)
    status, refused = await shop.request("orders", "POST", "/orders", {**body, "card": "tok_declined"}, key)
    assert (status, refused["reason"]) == (422, "idempotency_key_reused")
    # The same key of somebody else is another order.
    other = await shop.request("orders", "POST", "/orders", {**body, "customer": "hal"}, key)
    assert other[1]["id"] != first[1]["id"]
    await shop.chaos("payments", latency_ms=500)
    at_once = await asyncio.gather(
        *(shop.request("orders", "POST", "/orders", body, {"Idempotency-Key": "two"}) for _ in range(5))
    )
    await shop.chaos("payments", latency_ms=0)
    assert len({(status, order["id"]) for status, order in at_once}) == 1
    assert await shop.metric("orders", "idempotency_conflicts_total") >= 2
    await shop.books()


async def test_the_metrics_of_the_runbook_are_there(shop: OpenShop) -> None:
    """Those that its alerts are about; the gateway's and those of orders."""
    rules = (PACKAGE / "monitoring/alerts.yml").read_text(encoding="utf-8")
    wanted = {name for name in re.findall(r"\b[a-z][a-z0-9_]+\b(?=[\[){ ])", rules) if "_" in name} - {"group_left"}
    assert {"order_success_rate", "outbox_pending", "breaker_state", "retry_attempts_total"} <= wanted
    await shop.order("ada")
    text = "".join([await shop.text(service, "/metrics") for service in ("gateway", "orders")])
    exposed = {re.split(r"[{ ]", line)[0] for line in text.splitlines() if not line.startswith("#")}
    assert wanted - exposed == set()


async def test_what_is_wrong_is_refused_by_name(shop: OpenShop) -> None:
    for body, named in WRONG_BODIES:
        status, refused = await shop.request("gateway", "POST", "/orders", body)
        assert status in {400, 422}, body
        assert named in refused["detail"]
    status, refused = await shop.request("gateway", "POST", "/orders", {}, {"Idempotency-Key": "k" * 256})
    assert status == 422 or refused["reason"] == "idempotency_key_malformed"
    assert (await shop.request("gateway", "GET", "/orders/nothing"))[0] == 404
    # Nobody pays or reserves through the gateway without the key of the orders service.
    for path in ("payments/payments", "inventory/reservations", "notifications/events"):
        status, refused = await shop.request("gateway", "POST", f"/internal/{path}", {})
        assert (status, refused["reason"]) == (401, "unauthenticated")


async def test_participants_do_one_thing_once_and_nothing_after_it_was_taken_back(shop: OpenShop) -> None:
    charge = {"order_id": "order_x", "amount": 500, "card": "tok_ok"}
    key = {"Idempotency-Key": "order_x.pay"}
    first = await shop.request("payments", "POST", "/payments", charge, key)
    assert first == await shop.request("payments", "POST", "/payments", charge, key)
    # Another key for the same order is another way to ask for the same payment.
    other = await shop.request("payments", "POST", "/payments", charge, {"Idempotency-Key": "other"})
    assert first == other == (201, {"order_id": "order_x", "status": "captured", "amount": 500})
    status, void = await shop.request("payments", "POST", "/payments/order_x/void")
    assert (status, void["returned"]) == (200, 500)
    # A charge or a reservation that comes after it was taken back: it was on its way for too long.
    late = {"Idempotency-Key": "order_y"}
    await shop.request("payments", "POST", "/payments/order_y/void")
    status, refused = await shop.request("payments", "POST", "/payments", {**charge, "order_id": "order_y"}, late)
    assert (status, refused["reason"]) == (410, "voided")
    await shop.request("inventory", "POST", "/reservations/order_y/release")
    reserve = {"order_id": "order_y", "items": TEA}
    status, refused = await shop.request("inventory", "POST", "/reservations", reserve, late)
    assert (status, refused["reason"]) == (410, "released")
    assert (await shop.request("payments", "POST", "/payments", charge))[1]["reason"] == "idempotency_key_missing"
    await shop.books()


async def test_the_chaos_scripts_switch_on_and_off(shop: OpenShop) -> None:
    urls = {
        f"{name.upper()}_URL": f"http://127.0.0.1:{getattr(shop.ports, name)}" for name in ("payments", "inventory")
    }
    for script, service, setting, default in (
        ("payment_errors", "payments", "error_rate", 0.8),
        ("payment_slow", "payments", "latency_ms", 3000),
        ("inventory_lock", "inventory", "lock_contention_ms", 150),
    ):
        for arguments, expected in ((["enable"], default), (["enable", "0.5"], 0.5), (["disable"], 0)):
            command = ["bash", f"chaos/scripts/{script}.sh", *arguments]
            environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", **urls}
            await asyncio.to_thread(subprocess.run, command, cwd=PACKAGE, env=environment, check=True)
            status, settings = await shop.request(service, "GET", "/chaos/config")
            assert (status, settings[setting]) == (200, expected)
    await shop.chaos("payments", error_rate=1.0)
    assert (await shop.request("payments", "DELETE", "/chaos/config"))[1] == {"error_rate": 0, "latency_ms": 0}
    for wrong in ({"error_rate": 2}, {"error_rate": True}, {"luck": 1}):
        assert (await shop.request("payments", "PUT", "/chaos/config", wrong))[0] == 422

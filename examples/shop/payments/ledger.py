"""The money. Amounts are whole cents.

A payment belongs to one order, and an order has at most one. `ledger` has a line for each movement: the sum of its
lines is what the shop has been paid.

An order that gives up asks for its payment to be voided without knowing whether there is one: its charge may be lost,
or late. So voiding a payment that is not there leaves a row that is voided already, and a charge that comes after it is
refused. Without that row a charge that was delayed on its way would take money for an order that nobody wants.
"""

from typing import Final

from shop.common.answers import Answer, problem
from shop.common.database import Transaction

SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS payments (
        order_id TEXT PRIMARY KEY,
        status TEXT NOT NULL,
        amount BIGINT NOT NULL,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS ledger (
        order_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        amount BIGINT NOT NULL,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP,
        PRIMARY KEY (order_id, kind)
    )
    """,
)
CAPTURED: Final = "captured"
DECLINED: Final = "declined"
VOIDED: Final = "voided"
# What test cards do at every payment provider: this one has no money.
DECLINED_CARD: Final = "tok_declined"


async def charge(transaction: Transaction, order_id: str, amount: int, card: str) -> Answer:
    """201 with the payment, 402 if the card is declined, 410 if the order has voided its payment already."""
    status = DECLINED if card == DECLINED_CARD else CAPTURED
    first = await transaction.execute(
        "INSERT INTO payments (order_id, status, amount) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        order_id,
        status,
        amount,
    )
    if first and status == CAPTURED:
        await _enter(transaction, order_id, "charge", amount)
    [payment] = await transaction.fetch("SELECT status, amount FROM payments WHERE order_id = $1", order_id)
    if payment["status"] == VOIDED:
        return problem(410, "voided", f"the payment of {order_id} has been voided")
    if payment["status"] == DECLINED:
        return problem(402, "card_declined", f"the card of {order_id} is declined")
    return Answer(201, {"order_id": order_id, "status": CAPTURED, "amount": payment["amount"]})


async def void(transaction: Transaction, order_id: str) -> Answer:
    """200 with the amount that goes back, which is 0 where nothing had been charged."""
    first = await transaction.execute(
        "INSERT INTO payments (order_id, status, amount) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING", order_id, VOIDED
    )
    returned = 0
    if not first:
        changed = await transaction.fetch(
            "UPDATE payments SET status = $2 WHERE order_id = $1 AND status = $3 RETURNING amount",
            order_id,
            VOIDED,
            CAPTURED,
        )
        for payment in changed:
            returned = payment["amount"]
            await _enter(transaction, order_id, "void", -returned)
    return Answer(200, {"order_id": order_id, "status": VOIDED, "returned": returned})


async def _enter(transaction: Transaction, order_id: str, kind: str, amount: int) -> None:
    await transaction.execute("INSERT INTO ledger (order_id, kind, amount) VALUES ($1, $2, $3)", order_id, kind, amount)

"""The goods.

`received` of a product is what was ever put on the shelf, `quantity` what is there now; the difference is in
reservations that are held. A reservation belongs to one order. Releasing one that is not there leaves a row that is
released already, so that a request to reserve that was delayed on its way is refused: see `payments/ledger.py`.
"""

from typing import Final

from shop.common.answers import Answer, problem
from shop.common.database import Row, Transaction

SCHEMA: Final = (
    """
    CREATE TABLE IF NOT EXISTS products (
        sku TEXT PRIMARY KEY,
        name TEXT NOT NULL,
        price BIGINT NOT NULL,
        quantity BIGINT NOT NULL CHECK (quantity >= 0),
        received BIGINT NOT NULL
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS reservations (
        order_id TEXT PRIMARY KEY,
        status TEXT NOT NULL,
        amount BIGINT NOT NULL,
        created_at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP
    )
    """,
    """
    CREATE TABLE IF NOT EXISTS reserved_items (
        order_id TEXT NOT NULL,
        sku TEXT NOT NULL,
        quantity BIGINT NOT NULL,
        PRIMARY KEY (order_id, sku)
    )
    """,
    """
    INSERT INTO products (sku, name, price, quantity, received) VALUES
        ('coffee', 'Coffee, 250 g', 890, 100000, 100000),
        ('tea', 'Tea, 100 g', 650, 100000, 100000),
        ('mug', 'A mug', 1200, 100000, 100000),
        ('teapot', 'The last teapots', 4900, 3, 3)
    ON CONFLICT DO NOTHING
    """,
)
HELD: Final = "held"
RELEASED: Final = "released"
REFUSED: Final = "refused"


async def reserve(transaction: Transaction, order_id: str, wanted: dict[str, int]) -> Answer:
    """201 with the price of all, 422 if there is not enough or no such product, 410 if it was released already."""
    first = await transaction.execute(
        "INSERT INTO reservations (order_id, status, amount) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING", order_id, HELD
    )
    if first:
        return await _take(transaction, order_id, wanted)
    [reservation] = await transaction.fetch("SELECT status, amount FROM reservations WHERE order_id = $1", order_id)
    if reservation["status"] != HELD:
        return problem(410, "released", f"the reservation of {order_id} has been {reservation['status']}")
    return _held(order_id, reservation["amount"])


async def release(transaction: Transaction, order_id: str) -> Answer:
    """200 with the number of pieces that are on the shelf again."""
    first = await transaction.execute(
        "INSERT INTO reservations (order_id, status, amount) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING",
        order_id,
        RELEASED,
    )
    pieces = 0
    if not first:
        changed = await transaction.execute(
            "UPDATE reservations SET status = $2 WHERE order_id = $1 AND status = $3", order_id, RELEASED, HELD
        )
        if changed:
            pieces = await _give_back(transaction, order_id)
    return Answer(200, {"order_id": order_id, "status": RELEASED, "pieces": pieces})


async def receive(transaction: Transaction, sku: str, pieces: int) -> list[Row]:
    """More of a product is on the shelf; no row where there is no such product."""
    return await transaction.fetch(
        "UPDATE products SET quantity = quantity + $2, received = received + $2 WHERE sku = $1 RETURNING sku, quantity",
        sku,
        pieces,
    )


async def _take(transaction: Transaction, order_id: str, wanted: dict[str, int]) -> Answer:
    # Always in the same order: two transactions that lock the same two rows in different orders wait for each other.
    amount = 0
    for sku in sorted(wanted):
        taken = await transaction.fetch(
            "UPDATE products SET quantity = quantity - $2 WHERE sku = $1 AND quantity >= $2 RETURNING price",
            sku,
            wanted[sku],
        )
        if not taken:
            # The refusal is kept, and with it what was taken before goes back.
            await _give_back(transaction, order_id)
            await transaction.execute("UPDATE reservations SET status = $2 WHERE order_id = $1", order_id, REFUSED)
            return problem(422, "out_of_stock", f"there are no {wanted[sku]} pieces of {sku}")
        amount += taken[0]["price"] * wanted[sku]
        await transaction.execute(
            "INSERT INTO reserved_items (order_id, sku, quantity) VALUES ($1, $2, $3)", order_id, sku, wanted[sku]
        )
    await transaction.execute("UPDATE reservations SET amount = $2 WHERE order_id = $1", order_id, amount)
    return _held(order_id, amount)


async def _give_back(transaction: Transaction, order_id: str) -> int:
    lines = await transaction.fetch(
        "SELECT sku, quantity FROM reserved_items WHERE order_id = $1 ORDER BY sku", order_id
    )
    for line in lines:
        await transaction.execute(
            "UPDATE products SET quantity = quantity + $2 WHERE sku = $1", line["sku"], line["quantity"]
        )
    await transaction.execute("DELETE FROM reserved_items WHERE order_id = $1", order_id)
    return sum(line["quantity"] for line in lines)


def _held(order_id: str, amount: int) -> Answer:
    return Answer(201, {"order_id": order_id, "status": HELD, "amount": amount})

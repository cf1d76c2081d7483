"""An order and what is known of it. `checkout.py` says how it moves, `store.py` keeps it.

`status` is what the customer hears, and changes once, from `pending` to one of the others. `stock` and `payment` say
what may have happened at the services that have the goods and the money. They are written before a request is sent, so
`reserving` after a crash means: perhaps it is reserved.

    stock     reserving → reserved | refused | releasing → released
    payment   none → paying → paid | refused | voiding → voided
"""

import json
from dataclasses import dataclass
from typing import Any, Final, Self

from shop.common.database import Row

PENDING: Final = "pending"
COMPLETED: Final = "completed"
OUT_OF_STOCK: Final = "out_of_stock"
PAYMENT_FAILED: Final = "payment_failed"
INVENTORY_FAILED: Final = "inventory_failed"

TO_UNDO: Final = ("releasing", "voiding")


@dataclass(frozen=True)
class Order:
    """As it stands in its table. `fence` counts who has worked on it: only the last one may change it."""

    id: str
    customer: str
    items: dict[str, int]
    card: str
    idempotency_key: str | None
    fingerprint: str
    correlation_id: str
    amount: int = 0
    status: str = PENDING
    reason: str | None = None
    stock: str = "reserving"
    payment: str = "none"
    fence: int = 1
    attempts: int = 0
    decided_at: float | None = None
    settled_at: float | None = None

    @classmethod
    def of(cls, row: Row) -> Self:
        """From a row of the table."""
        known = {name: row[name] for name in cls.__dataclass_fields__}
        return cls(**{**known, "items": json.loads(row["items"])})

    @property
    def to_undo(self) -> bool:
        """Whether something that may have happened has to be taken back."""
        return self.stock in TO_UNDO or self.payment in TO_UNDO

    @property
    def compensation(self) -> str:
        """For the customer: whether what was begun has been taken back."""
        if self.to_undo:
            return "pending"
        return "done" if self.stock == "released" else "none"

    def as_json(self) -> dict[str, Any]:
        """For the customer, who does not see leases and keys."""
        return {
            "id": self.id,
            "status": self.status,
            "reason": self.reason,
            "customer": self.customer,
            "items": [{"sku": sku, "quantity": quantity} for sku, quantity in self.items.items()],
            "amount": self.amount,
            "compensation": self.compensation,
        }

    def event(self) -> dict[str, Any]:
        """What the customer is told of the decision."""
        return {
            "type": f"order.{self.status}",
            "order_id": self.id,
            "customer": self.customer,
            "amount": self.amount,
            "reason": self.reason,
        }

"""What the orders service counts."""

from prometheus_client import Histogram

from shop.common.service import Service
from shop.orders.order import Order
from shop.orders.outbox import Outbox
from shop.orders.store import Orders


class Metrics:
    """`order_success_rate`, `orders_total{status}`, `orders_unsettled`, `order_compensation_seconds`, `outbox_pending`,
    `outbox_oldest_seconds`."""

    def __init__(self, service: Service, orders: Orders, outbox: Outbox) -> None:
        self._orders = service.counter("orders", "Decided orders.", ("status",))
        self._compensation = Histogram(
            "order_compensation_seconds",
            "From the decision to the end of what had to be undone.",
            buckets=(0.1, 0.5, 1, 2, 5, 10, 30, 60),
            registry=service.registry,
        )
        service.gauge("order_success_rate", "Completed among the orders of the last minute.", orders.success_rate)
        service.gauge("orders_unsettled", "Orders that are pending or have something to undo.", orders.unsettled)
        service.gauge("outbox_pending", "Events that are not published yet.", outbox.pending)
        service.gauge("outbox_oldest_seconds", "Age of the oldest of them.", outbox.oldest_seconds)

    def decided(self, order: Order) -> None:
        """The order has got its status."""
        self._orders.labels(order.status).inc()

    def compensated(self, seconds: float) -> None:
        """Everything that had to be undone is undone, so many seconds after the decision."""
        self._compensation.observe(seconds)

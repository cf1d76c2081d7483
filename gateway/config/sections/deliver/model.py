"""The outbox in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass, field

METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
"""The methods of requests that can be delivered later: those whose answer is no content that the client waits for."""


@dataclass(frozen=True, slots=True)
class DeliverConfig:
    """Of one route, whose requests are answered with 202 once they are in the journal, and delivered then.

    After the first attempt come as many more as `schedule` has pauses, in seconds; each is longer by up to `jitter` of
    itself. An attempt takes at most `timeout` seconds, and each worker makes at most `concurrency` at once. Of messages
    with the same value of the field `order_by` one is under way at a time, in the order in which they came. A body has
    at most `max_message_bytes`. Messages are signed with each of `secrets`; without one they are not signed.
    """

    schedule: tuple[float, ...] = (5.0, 300.0, 1800.0, 7200.0, 18_000.0, 36_000.0, 36_000.0)
    jitter: float = 0.2
    timeout: float = 15.0
    concurrency: int = 4
    order_by: str | None = None
    max_message_bytes: int = 65_536
    secrets: tuple[bytes, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class OutboxLimits:
    """Of all routes together. While `max_pending` messages wait, or `max_bytes` of them, no more are taken. Messages
    are deleted so many seconds after they were delivered, or given up."""

    max_pending: int = 100_000
    max_bytes: int = 1_073_741_824
    delivered_retention: float = 86_400.0
    dead_retention: float = 2_592_000.0

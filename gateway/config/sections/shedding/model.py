"""The cap on all requests in flight, and priorities: the effective configuration of load shedding."""

from dataclasses import dataclass, field

from gateway.policy.limit import LimitSettings


@dataclass(frozen=True, slots=True)
class SheddingConfig:
    """The global cap on exchanges in flight and the answer beyond it. `retry_after` in seconds, before jitter.
    `client_share` is the part of it that one client may hold, above 0 and up to 1. With `priorities` each class of
    requests may hold a part of each limit (`gateway.policy.priority`), and the field `priority_header` of a request, if
    there is one, may lower its class."""

    limit: LimitSettings = field(default_factory=lambda: LimitSettings(limit=1000, max_queue=0, queue_timeout=0.0))
    status: int = 429
    retry_after: float = 5.0
    client_share: float = 0.8
    priority_header: str | None = None
    priorities: bool = False

"""Idempotency keys in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class IdempotencyConfig:
    """Of one route. Keys are looked at for `methods`, and must be there where they are `required`. An answer of at most
    `max_response_bytes` is repeated for `ttl` seconds. A repetition that comes while the first request runs waits up to
    `wait` seconds for it. Keys are those of a client (its consumer, else its address) or of a tenant (`scope`).

    `on_unknown`: whether a key whose first request may have been carried out, without an answer that says so, is
    blocked for the rest of `ttl`, or its request may be tried again. `on_store_failure`: whether requests are refused
    while the journal is away, or pass without a promise.
    """

    required: bool = False
    methods: frozenset[str] = frozenset({"POST", "PATCH"})
    ttl: float = 86_400.0
    wait: float = 0.0
    max_response_bytes: int = 65_536
    on_unknown: Literal["block", "retry"] = "block"
    scope: Literal["client", "tenant"] = "client"
    on_store_failure: Literal["closed", "open"] = "closed"


@dataclass(frozen=True, slots=True)
class IdempotencyLimits:
    """Of all routes together. Beyond `max_records` or `max_bytes` the oldest finished records are deleted. What is over
    is deleted every `cleanup_interval` seconds."""

    max_records: int = 10_000
    max_bytes: int = 268_435_456
    cleanup_interval: float = 3600.0

"""The circuit breaker: a file for each state, and `breaker.py` with the transitions between them."""

from gateway.policy.breaker.breaker import CircuitBreaker
from gateway.policy.breaker.evidence import Counts, Evidence, History
from gateway.policy.breaker.permit import UNCOUNTED, CircuitOpen, Permit
from gateway.policy.breaker.settings import (
    CLOSED,
    FORCED_CLOSED,
    FORCED_OPEN,
    HALF_OPEN,
    OPEN,
    PROBE_PATIENCE,
    BreakerSettings,
    CircuitState,
    probe_wait,
)

__all__ = [
    "CLOSED",
    "FORCED_CLOSED",
    "FORCED_OPEN",
    "HALF_OPEN",
    "OPEN",
    "PROBE_PATIENCE",
    "UNCOUNTED",
    "BreakerSettings",
    "CircuitBreaker",
    "CircuitOpen",
    "CircuitState",
    "Counts",
    "Evidence",
    "History",
    "Permit",
    "probe_wait",
]

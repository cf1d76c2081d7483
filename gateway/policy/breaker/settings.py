"""How a circuit is configured, and the states that it can be in."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from gateway.policy.verdict import TripRules

PROBE_PATIENCE: Final = 1.0
"""Seconds. While all probes of a half-open circuit are under way, a client that is refused is told to come back within
this time, because the outcome of a probe is usually known long before the probe's own time limit. When the oldest probe
has been under way for longer than this, clients are told how long that probe may still take."""


def probe_wait(lapses_in: float, probe_time: float) -> float:
    """The seconds after which a refused client should come back while a probe is under way.

    The probe was given `probe_time` seconds and has `lapses_in` of them left.
    """
    return lapses_in if probe_time - lapses_in > PROBE_PATIENCE else min(PROBE_PATIENCE, lapses_in)


@dataclass(frozen=True, slots=True)
class BreakerSettings(TripRules):
    """When a circuit opens (`TripRules`) and how it recovers; docs/behaviour.md explains both to operators.

    An open circuit becomes half-open after `reset_timeout` seconds. A half-open circuit lets `half_open_max_probes`
    attempts through at a time, and closes after `half_open_success_threshold` successes.
    """

    reset_timeout: float = 30.0
    half_open_max_probes: int = 1
    half_open_success_threshold: int = 2


class CircuitState(Enum):
    """The states of a circuit. The values are the words of logs, metrics and the store."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"
    FORCED_OPEN = "forced_open"
    FORCED_CLOSED = "forced_closed"


CLOSED: Final = CircuitState.CLOSED
OPEN: Final = CircuitState.OPEN
HALF_OPEN: Final = CircuitState.HALF_OPEN
FORCED_OPEN: Final = CircuitState.FORCED_OPEN
FORCED_CLOSED: Final = CircuitState.FORCED_CLOSED

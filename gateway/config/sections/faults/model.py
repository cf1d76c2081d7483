"""Faults on demand in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FaultsConfig:
    """Faults on demand. `max_percent` bounds what all faults of an upstream strike together; `max_duration` each."""

    enabled: bool = False
    max_percent: float = 50.0
    max_duration: float = 600.0

"""Sagas in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SagaLimits:
    """Of all workflows together. While `max_open` runs have not ended, no more begin. Each worker carries out
    `concurrency` at once. A run is deleted `retention` seconds after it has ended."""

    max_open: int = 10_000
    concurrency: int = 64
    retention: float = 604_800.0

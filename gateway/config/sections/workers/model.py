"""The worker processes in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkersConfig:
    """`count` processes serve requests, 0 is one for each core that may be used. One that gives no sign of life for
    `stall` seconds is replaced."""

    count: int = 1
    stall: float = 10.0

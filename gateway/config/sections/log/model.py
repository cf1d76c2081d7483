"""Logs in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class LogConfig:
    """Where logs go and how they are written. `dir` None means standard output only; files are kept for
    `retention_days` and begun anew beyond `max_file_bytes`."""

    level: str = "INFO"
    format: Literal["json", "text"] = "json"
    access_log: bool = True
    access_log_query: bool = True
    dir: str | None = None
    retention_days: int = 14
    max_file_bytes: int = 268_435_456

"""The journal in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class JournalConfig:
    """Where promises are kept that survive a crash. `path` is that of a SQLite file; None means PostgreSQL at `url`.
    `timeout` in seconds bounds one operation. `connections` is how many each worker has to PostgreSQL."""

    url: str = field(default="sqlite:///var/journal.db", repr=False)
    path: str | None = "var/journal.db"
    timeout: float = 2.0
    connections: int = 8

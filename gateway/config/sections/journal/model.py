"""The journal in the effective configuration (see `gateway.config.model`).

There is one type for each place where promises can be kept that survive a crash. `timeout` in seconds bounds one
operation.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class SqliteConfig:
    """A file of SQLite, which the workers of one host share."""

    path: str = "var/journal.db"
    timeout: float = 2.0


@dataclass(frozen=True, slots=True)
class PostgresqlConfig:
    """A database of PostgreSQL. `url` may hold a password. `connections` is how many each worker has."""

    url: str = field(repr=False)
    timeout: float = 2.0
    connections: int = 8


JournalConfig = SqliteConfig | PostgresqlConfig

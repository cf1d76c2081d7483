"""Which backend a configuration means."""

from collections.abc import Callable

from gateway.config.sections.journal.model import JournalConfig, SqliteConfig
from gateway.journal.port import Journal, JournalState
from gateway.journal.sqlite import SqliteJournal


def make_journal(config: JournalConfig, changed: Callable[[JournalState], None] = lambda _state: None) -> Journal:
    """The journal, not yet started. `changed` is told of each failure, and when it works again. Raises
    ImportError for PostgreSQL without the extra `journal`."""
    if isinstance(config, SqliteConfig):
        return SqliteJournal(config.path, config.timeout, changed)
    from gateway.journal.postgresql import PostgresqlJournal  # noqa: PLC0415 - asyncpg is an extra

    return PostgresqlJournal(config.url, config.timeout, config.connections, changed)

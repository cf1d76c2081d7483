"""Where the journal is, and whether it can be there."""

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.building.file_checks import can_be_written
from gateway.config.building.place import Place
from gateway.config.building.sources import Sources
from gateway.config.sections.journal.model import JournalConfig, PostgresqlConfig, SqliteConfig
from gateway.config.sections.journal.settings import Journal
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.settings import Settings


def journal_config(journal: Journal) -> JournalConfig:
    """The domain type."""
    if journal.url.startswith("sqlite:"):
        return SqliteConfig(urlsplit(journal.url).path.removeprefix("/"), journal.timeout)
    return PostgresqlConfig(journal.url, journal.timeout, journal.connections)


def check_journal(journal: JournalConfig, place: Place) -> None:
    """Report a journal that cannot work here, for a configuration that needs one."""
    if isinstance(journal, PostgresqlConfig):
        if find_spec("asyncpg") is None:
            place.report(("url",), journal.url, "sqlite:///path, or postgresql:// with the extra `journal` installed")
        return
    directory = str(Path(journal.path).parent)
    if not can_be_written(directory):
        place.report(
            ("url",),
            f"sqlite:///{journal.path}",
            f"a file in a directory that can be written or created, not {directory}",
        )


def journal_of(sources: Sources, settings: Settings, routes: Iterable[RouteConfig]) -> tuple[JournalConfig, bool]:
    """Where the journal is, and whether a route needs it."""
    journal = journal_config(settings.journal)
    needed = any(route.idempotency or route.deliver or route.workflow for route in routes)
    if needed:
        check_journal(journal, sources.place("journal"))
    return journal, needed

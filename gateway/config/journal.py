"""Where the journal is, and whether it can be there."""

from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from gateway.config.checks import Place, can_be_written
from gateway.config.journal_settings import Journal
from gateway.config.model import JournalConfig


def journal_config(journal: Journal) -> JournalConfig:
    """The domain type."""
    path = urlsplit(journal.url).path
    sqlite = journal.url.startswith("sqlite:")
    return JournalConfig(
        url=journal.url,
        path=path.removeprefix("/") if sqlite else None,
        timeout=journal.timeout,
        connections=journal.connections,
    )


def check_journal(journal: JournalConfig, place: Place) -> None:
    """Report a journal that cannot work here, for a configuration that needs one."""
    if journal.path is None:
        if find_spec("asyncpg") is None:
            place.report(("url",), journal.url, "sqlite:///path, or postgresql:// with the extra `journal` installed")
        return
    directory = str(Path(journal.path).parent)
    if not can_be_written(directory):
        place.report(("url",), journal.url, f"a file in a directory that can be written or created, not {directory}")

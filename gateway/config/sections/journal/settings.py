"""The journal: where promises are kept that must survive a crash."""

from typing import Annotated
from urllib.parse import urlsplit

from annotated_types import Interval
from pydantic import AfterValidator, Field

from gateway.config.declaring import addresses
from gateway.config.declaring.section import Allowed, Env, Seconds, Section

_URL_ALLOWED = "sqlite:///path, sqlite:////absolute/path, or postgresql://[user[:password]@]host[:port]/database"


def _url(text: str) -> str:
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        addresses.reject(_URL_ALLOWED)
    if not text.isprintable() or parts.fragment:
        addresses.reject(_URL_ALLOWED)
    if parts.scheme == "sqlite":
        if parts.netloc or parts.query or len(parts.path) < 2 or parts.path.endswith("/"):
            addresses.reject(_URL_ALLOWED)
    elif parts.scheme not in {"postgresql", "postgres"} or len(parts.path) < 2:
        addresses.reject(_URL_ALLOWED)
    return text


class Journal(Section):
    """The journal, for routes that promise to survive a crash"""

    url: Annotated[
        str,
        AfterValidator(_url),
        Allowed(_URL_ALLOWED),
        Env(
            "JOURNAL_URL",
            "A file for the workers of this host, or PostgreSQL for a fleet; only used by routes that need it",
            secret=True,
        ),
    ] = Field(default="sqlite:///var/journal.db", repr=False)
    timeout: Annotated[
        Seconds,
        Interval(ge=0.05, le=60),
        Env("JOURNAL_TIMEOUT_SECONDS", "Bounds one operation, waiting for a lock or a connection included"),
    ] = 2.0
    connections: Annotated[
        int, Interval(ge=1, le=100), Env("JOURNAL_CONNECTIONS", "Connections of each worker to PostgreSQL")
    ] = 8

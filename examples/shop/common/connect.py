"""Which database a URL means."""

from shop.common.database import Database
from shop.common.sqlite import SqliteDatabase


async def connect(url: str) -> Database:
    """Open it; ValueError for a URL that means none."""
    if url.startswith("sqlite:///"):
        return await SqliteDatabase.open(url.removeprefix("sqlite:///"))
    raise ValueError(f"DATABASE_URL must begin with sqlite:///, not {url!r}")

"""Which database a URL means."""

from shop.common.database import Database
from shop.common.sqlite import SqliteDatabase


async def connect(url: str) -> Database:
    """Open it; ValueError for a URL that means none."""
    if url.startswith("sqlite:///"):
        return await SqliteDatabase.open(url.removeprefix("sqlite:///"))
    if url.startswith(("postgresql://", "postgres://")):
        # Only here: without PostgreSQL nobody needs its driver.
        from shop.common.postgres import PostgresDatabase  # noqa: PLC0415

        return await PostgresDatabase.open(url)
    raise ValueError(f"DATABASE_URL must begin with sqlite:/// or postgresql://, not {url!r}")

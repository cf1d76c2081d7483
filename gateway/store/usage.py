"""The part of the store port that counts what tenants use, for each day of UTC."""

from collections.abc import Mapping
from typing import Protocol

DAYS_KEPT = 8


class UsageStore(Protocol):
    """Requests of tenants by day. A day is written `2027-01-31`."""

    async def add_usage(self, day: str, sequence: int, used: Mapping[str, int]) -> Mapping[str, int]:
        """Add what this replica has counted, and return the sums of all replicas for the day, by tenant.

        `sequence` increases with each call of a replica that adds something. One that the store has seen is not added
        again, so a call whose answer was lost may be repeated. Raises `StoreUnavailable`.
        """
        ...

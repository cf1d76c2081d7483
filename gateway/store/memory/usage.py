"""What tenants use, in this process: the reference for `lua/usage.lua`, which does the same. Of the days only the
latest `DAYS` are kept: no replica asks for an earlier one."""

from collections.abc import Mapping
from typing import Final

DAYS: Final = 2


class UsageTable:
    """The counts that several replicas share. `days` has for each day the `counts` by tenant, and by replica the last
    sequence that it has `told`."""

    def __init__(self) -> None:
        self.days: dict[str, dict[str, dict[str, int]]] = {}

    def add(self, replica: str, day: str, sequence: int, used: Mapping[str, int]) -> Mapping[str, int]:
        """See `UsageStore.add_usage`."""
        kept = self.days.get(day)
        if kept is None:
            kept = self.days[day] = {"counts": {}, "told": {}}
            for old in sorted(self.days)[:-DAYS]:
                del self.days[old]
        counts, told = kept["counts"], kept["told"]
        if used and told.get(replica, 0) < sequence:
            told[replica] = sequence
            for tenant, count in used.items():
                counts[tenant] = counts.get(tenant, 0) + count
        return dict(counts)

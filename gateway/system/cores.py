"""How many cores this process may use, by its affinity and the quota of its control group, and so how many workers."""

import math
import os
from pathlib import Path

_GROUPS = Path("/sys/fs/cgroup")


def workers_for(wanted: int | None) -> int:
    """The number of workers on this machine where so many are asked for; None is one for each core."""
    return wanted or usable_cores()


def usable_cores(groups: Path = _GROUPS) -> int:
    """At least 1. A quota of 1.5 cores is 1: a second worker would be stopped in the middle of its work."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(groups)
    return max(1, cores if quota is None else min(cores, math.floor(quota)))


def _quota(groups: Path) -> float | None:
    """The cores that the control group allows, None for no limit or where that is not known. Inside a container its own
    group is mounted as the root; both versions of control groups are looked at."""
    try:
        quota, period = (groups / "cpu.max").read_text(encoding="ascii").split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    try:
        quota = (groups / "cpu" / "cpu.cfs_quota_us").read_text(encoding="ascii")
        period = (groups / "cpu" / "cpu.cfs_period_us").read_text(encoding="ascii")
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        return None

"""The usual `process_*` metrics, at a cost that does not grow with the number of connections.

`prometheus_client` lists `/proc/self/fd`, which takes 10 ms and more with 10,000 sockets open; since Linux 6.2 the
size of that directory is the number of descriptors, and older kernels (where it is 0) get the listing.
Where there is no `/proc`, the series that need it are missing.
"""

import os
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from gateway.telemetry.metrics.cells import Family, Kind, Labels

_PROC = Path("/proc")
_FDS = "/proc/self/fd"
_PAGE_BYTES = resource.getpagesize()


def families() -> tuple[Family, ...]:
    """The `process_…` families of the Prometheus client libraries, read from /proc. Values that this system does not
    have are left out."""
    start = _start_time()

    def virtual_memory() -> Iterator[tuple[Labels, float]]:
        return _pages(0)

    def resident_memory() -> Iterator[tuple[Labels, float]]:
        return _pages(1)

    def start_time() -> Iterator[tuple[Labels, float]]:
        if start is not None:
            yield (), start

    return (
        _of_worker("process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", _cpu, "counter"),
        _of_worker("process_open_fds", "Number of open file descriptors.", _open_fds),
        _of_worker("process_max_fds", "Maximum number of open file descriptors.", _max_fds),
        _of_worker("process_virtual_memory_bytes", "Virtual memory size in bytes.", virtual_memory),
        _of_worker("process_resident_memory_bytes", "Resident memory size in bytes.", resident_memory),
        _of_worker("process_start_time_seconds", "Start time of the process since unix epoch in seconds.", start_time),
    )


def _of_worker(
    name: str, documentation: str, read: Callable[[], Iterator[tuple[Labels, float]]], kind: Kind = "gauge"
) -> Family:
    """A sum over several workers would say nothing."""
    return Family(name, kind, documentation, (), read, "worker")


def resident_bytes() -> int | None:
    """The memory of this process that is resident. None where the system does not say it."""
    return next((int(value) for _, value in _pages(1)), None)


def _cpu() -> Iterator[tuple[Labels, float]]:
    yield (), time.process_time()


def _open_fds() -> Iterator[tuple[Labels, float]]:
    try:
        count = os.stat(_FDS).st_size or len(os.listdir(_FDS))  # noqa: PTH116, PTH208 - a scrape every second
    except OSError:
        return
    yield (), count


def _max_fds() -> Iterator[tuple[Labels, float]]:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield (), float("inf") if soft == resource.RLIM_INFINITY else soft


def _pages(column: int) -> Iterator[tuple[Labels, float]]:
    try:
        statm = (_PROC / "self" / "statm").read_bytes()
    except OSError:
        return
    yield (), int(statm.split()[column]) * _PAGE_BYTES


def _start_time() -> float | None:
    """Seconds since the epoch: boot time plus field 22 of `/proc/self/stat` (proc(5)), in clock ticks."""
    try:
        stat = (_PROC / "self" / "stat").read_bytes()
        boot = next(line for line in (_PROC / "stat").read_bytes().splitlines() if line.startswith(b"btime "))
    except (OSError, StopIteration):
        return None
    # The second field is the program's name in parentheses and may itself hold spaces and parentheses.
    ticks = int(stat.rpartition(b")")[2].split()[19])
    return int(boot.split()[1]) + ticks / os.sysconf("SC_CLK_TCK")

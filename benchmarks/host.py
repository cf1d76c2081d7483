"""What the benchmark needs to know of the machine, and to ask of it (Linux)."""

import contextlib
import os
import platform
import resource
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.compiled import HOW


@dataclass(frozen=True, slots=True)
class Cores:
    """`proxy` is where the one under test runs alone; load generators, upstreams and Redis share `load`."""

    load: int
    proxy: int

    @property
    def shared(self) -> bool:
        """Rates and latencies mean little then; CPU per request still does."""
        return self.load == self.proxy


def choose_cores() -> Cores:
    """The first and the last core that this process may run on."""
    allowed = sorted(os.sched_getaffinity(0))
    return Cores(allowed[0], allowed[-1])


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started within inherits being bound to `core`, from before its first instruction. None: to nothing."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def free_port() -> int:
    """A port of the loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_listening(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.5):
            return True
    except OSError:
        return False


def raise_descriptor_limit() -> int:
    """Soft limit of open files up to the hard one, for this process and its children; the limit then."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted


def describe() -> dict[str, object]:
    """For the record of a run."""
    model = "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model,
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "gateway": HOW,
        "load_average": [round(value, 2) for value in os.getloadavg()],
    }

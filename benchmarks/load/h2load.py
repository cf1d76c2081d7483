"""h2load on the load core: requests at a constant rate whatever the answers do (open loop).

Every connection sends at its share of the rate, at instants of its own, so that arrivals are spread evenly. Where an
answer takes longer than a connection's period, its next request is late, and the time from when it was due does not
count; with as many connections as here that is beyond what is measured.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.host import pinned
from benchmarks.rig import Rig

CONNECTIONS = 61
"""A prime: the periods of the connections and the pace at which they are opened never fall into step."""

PROGRAM = "h2load"


@dataclass(frozen=True, slots=True)
class Latencies:
    """Milliseconds over all requests after the first tenth; `refused` are those with a status from 400 up."""

    rate: float
    requests: int
    refused: int
    p50: float
    p99: float
    p999: float


def constant_rate(rig: Rig, url: str, rate: float, seconds: float) -> Latencies | None:
    """Blocks for about `seconds`. None when nothing, or less than nine tenths of it, was answered in time."""
    log = rig.directory / "h2load.log"
    log.unlink(missing_ok=True)
    total = int(rate * seconds)
    command = [PROGRAM, "--h1", "-t1", f"-c{CONNECTIONS}", f"-n{total}", "-r1", "--rate-period=1ms"]
    with pinned(rig.cores.load):
        subprocess.run(
            [*command, f"--rps={rate / CONNECTIONS:.3f}", f"--log-file={log}", "-T5s", url],
            capture_output=True,
            timeout=seconds + 20,
            check=False,
        )
    if not log.exists():
        return None
    return summary([line.split("\t") for line in log.read_text().splitlines()], rate, total)


def summary(rows: Sequence[Sequence[str]], rate: float, total: int) -> Latencies | None:
    """Of the lines of h2load's log: start in microseconds, status, microseconds until the end of the answer."""
    if len(rows) < 0.9 * total or not rows:
        return None
    kept = sorted(int(row[2]) / 1000 for row in rows[len(rows) // 10 :])

    def percentile(share: float) -> float:
        return kept[min(len(kept) - 1, int(share * len(kept)))]

    refused = sum(int(row[1]) >= 400 for row in rows)
    return Latencies(rate, len(rows), refused, percentile(0.5), percentile(0.99), percentile(0.999))

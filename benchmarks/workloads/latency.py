"""Latency at half of the rate at which the gateway saturates, open loop, beside nginx and beside no proxy at all.

added = percentile through the proxy - percentile straight to the upstream, of the same round and rate
"""

import json
import subprocess
import sys
from contextlib import ExitStack

from benchmarks.host import pinned
from benchmarks.load import wrk
from benchmarks.observations import P50, P50_ADDED, P99, P99_ADDED, P999, RATE, REFUSED, Observations
from benchmarks.peers import GATEWAY, NGINX
from benchmarks.rig import program_environment
from benchmarks.session import Session
from benchmarks.workloads.base import Workload

_CONNECTIONS = 32
_SHARE = 0.5
# Beyond it the generator, sharing a core with the upstream, would measure itself.
_MOST_PER_SECOND = 8000.0


def _run(session: Session, observations: Observations) -> None:
    with ExitStack() as stack:
        proxies = session.start((NGINX, GATEWAY), stack)
        ours = next(proxy for proxy in proxies if proxy.name == GATEWAY.name)
        full = wrk.run(session.rig, ours.url, wrk.Load(), session.plan.seconds)
        rate = min(_MOST_PER_SECOND, _SHARE * full.requests / full.seconds)
        case = "half of saturation"
        targets = [("direct", session.rig.upstream_port), *((proxy.name, proxy.port) for proxy in proxies)]
        for round_number in session.rounds(min(3, session.plan.rounds)):
            direct: dict[str, float] = {}
            for name, port in targets:
                result = _constant_rate(session, port, rate)
                if result is None:
                    continue
                direct = direct or result
                values = {
                    RATE: result["rate"],
                    P50: result["p50_ms"],
                    P99: result["p99_ms"],
                    P999: result["p999_ms"],
                    P50_ADDED: result["p50_ms"] - direct["p50_ms"],
                    P99_ADDED: result["p99_ms"] - direct["p99_ms"],
                    REFUSED: 100.0 * result["refused"] / result["requests"],
                }
                for metric, value in values.items():
                    observations.add(case, name, round_number, metric, value)
                if result["late"]:
                    session.note(f"latency: {result['late']:.0f} requests to {name} were never answered")


def _constant_rate(session: Session, port: int, rate: float) -> dict[str, float] | None:
    seconds = session.plan.seconds
    arguments = (str(port), "/proxy/ok", f"{rate:.1f}", f"{seconds:g}", str(_CONNECTIONS))
    with pinned(session.rig.cores.load):
        finished = subprocess.run(
            [sys.executable, "-m", "benchmarks.load.constant_rate", *arguments],
            env=program_environment(),
            capture_output=True,
            text=True,
            timeout=seconds + 20,
            check=False,
        )
    if finished.returncode:
        session.note(f"latency: {finished.stderr.strip()[-500:]}")
        return None
    result: dict[str, float] = json.loads(finished.stdout)
    return result


LATENCY = Workload("latency", "at half of the gateway's saturation rate: how much later do answers come?", _run)

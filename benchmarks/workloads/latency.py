"""Latency at half of the rate at which the gateway saturates, open loop, beside nginx and beside no proxy at all.

added = percentile through the proxy - percentile straight to the upstream, of the same round and rate
"""

import shutil
from contextlib import ExitStack

from benchmarks.load import h2load, wrk
from benchmarks.observations import P50, P50_ADDED, P99, P99_ADDED, P999, RATE, REFUSED, Observations
from benchmarks.peers import GATEWAY, NGINX
from benchmarks.session import Session
from benchmarks.workloads.base import Workload

_SHARE = 0.5


def _run(session: Session, observations: Observations) -> None:
    if shutil.which(h2load.PROGRAM) is None:
        session.note("latency: h2load is not installed (apt-get install nghttp2-client)")
        return
    with ExitStack() as stack:
        proxies = session.start((NGINX, GATEWAY), stack)
        ours = next(proxy for proxy in proxies if proxy.name == GATEWAY.name)
        full = wrk.run(session.rig, ours.url, wrk.Load(), session.plan.seconds)
        rate = _SHARE * full.requests / full.seconds
        case = "half of saturation"
        targets = [("direct", session.rig.upstream_url), *((proxy.name, proxy.url) for proxy in proxies)]
        for round_number in session.rounds(min(3, session.plan.rounds)):
            direct: h2load.Latencies | None = None
            for name, url in targets:
                found = h2load.constant_rate(session.rig, f"{url}/proxy/ok", rate, session.plan.seconds)
                if found is None:
                    session.note(f"latency: {name} did not answer {rate:.0f} requests a second")
                    continue
                direct = direct or found
                values = {
                    RATE: found.rate,
                    P50: found.p50,
                    P99: found.p99,
                    P999: found.p999,
                    P50_ADDED: found.p50 - direct.p50,
                    P99_ADDED: found.p99 - direct.p99,
                    REFUSED: 100.0 * found.refused / found.requests,
                }
                for metric, value in values.items():
                    observations.add(case, name, round_number, metric, value)


LATENCY = Workload("latency", "at half of the gateway's saturation rate: how much later do answers come?", _run)

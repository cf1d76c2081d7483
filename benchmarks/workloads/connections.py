"""Many connections: 1,000 that are busy, and 10,000 that do nothing."""

import time
from contextlib import ExitStack

from benchmarks.load import wrk
from benchmarks.load.idle import idle_connections
from benchmarks.observations import CONNECTIONS, IDLE_BYTES, RESIDENT, Observations
from benchmarks.peers import AIOHTTP, GATEWAY, HAPROXY, NGINX
from benchmarks.session import MIB, Session
from benchmarks.workloads.base import Workload, side_by_side

_BUSY = 1000
_SPARE_DESCRIPTORS = 500


def _busy(session: Session, observations: Observations) -> None:
    load = wrk.Load(connections=_BUSY)
    rounds = 2 if session.plan.quick else 3
    side_by_side(session, observations, (NGINX, GATEWAY, HAPROXY), {f"{_BUSY:,} connections": load}, rounds=rounds)


def _idle(session: Session, observations: Observations) -> None:
    possible = session.rig.descriptors - _SPARE_DESCRIPTORS
    count = min(session.plan.idle_connections, possible)
    if count < session.plan.idle_connections:
        session.note(f"idle: only {count} connections, the limit of open files is {session.rig.descriptors}")
    case = f"{count:,} idle connections"
    with ExitStack() as stack:
        for proxy in session.start((NGINX, GATEWAY, HAPROXY, AIOHTTP), stack):
            if session.out_of_time:
                session.note("out of time before all were filled with idle connections")
                return
            # So that what every process allocates once is there before.
            wrk.run(session.rig, proxy.url, wrk.Load(), 1.0)
            before = proxy.child.resident_bytes()
            with idle_connections(proxy.port, "/proxy/ok", count) as opened:
                time.sleep(0.2)
                after = proxy.child.resident_bytes()
            observations.add(case, proxy.name, 1, CONNECTIONS, opened)
            observations.add(case, proxy.name, 1, IDLE_BYTES, (after - before) / opened)
            observations.add(case, proxy.name, 1, RESIDENT, after / MIB)


BUSY = Workload("busy", "1,000 busy connections: does the cost stay the same?", _busy)
IDLE = Workload("idle", "idle keep-alive connections: how much memory does each hold?", _idle)

"""One and two worker processes on all cores: how far do requests a second grow, and what does the sharing cost?

Load, upstream and Redis run on the same cores, so two workers cannot be twice as fast as one here; nginx with as many
processes, on the same cores under the same load, says how far anything could get. CPU is that of all processes of a
proxy: of the gateway, supervisor and workers, so with the embedded store what that store costs is in it.
"""

from benchmarks.load.wrk import Load, random_clients
from benchmarks.observations import Observations
from benchmarks.peers import gateway
from benchmarks.peers.nginx import nginx
from benchmarks.session import Session
from benchmarks.workloads.base import Workload, side_by_side
from benchmarks.workloads.clients import COUNT, TRUSTING

LOADS = {"one hot client": Load(), f"{COUNT:,} random clients": random_clients(COUNT)}


def _run(session: Session, observations: Observations) -> None:
    session.note("workers: load, upstream and Redis take their part of the same cores")
    for workers in (1, 2):
        few = f"{workers} worker{'s' * (workers > 1)}"
        peers = (
            nginx("nginx", workers),
            gateway(f"redis-{workers}", TRUSTING, workers=workers),
            gateway(f"embedded-{workers}", TRUSTING, redis=False, workers=workers),
        )
        side_by_side(session, observations, peers, {f"{case}, {few}": load for case, load in LOADS.items()})


WORKERS = Workload("workers", "1 and 2 worker processes on all cores: how much more, and at what cost?", _run)

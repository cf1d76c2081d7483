"""10,000 clients, each request from a random one: no lease helps, and buckets are asked about in batches."""

from benchmarks.load.wrk import random_clients
from benchmarks.observations import Observations
from benchmarks.peers import INTERPRETED, NGINX, NGINX_LUA, gateway
from benchmarks.session import Session
from benchmarks.workloads.base import Workload, side_by_side

COUNT = 10_000
TRUSTING = {"TRUSTED_PROXIES": "127.0.0.0/8"}


def _run(session: Session, observations: Observations) -> None:
    peers = (NGINX, gateway("gateway", TRUSTING), gateway(INTERPRETED.name, TRUSTING, interpreted=True), NGINX_LUA)
    side_by_side(session, observations, peers, {f"{COUNT:,} random clients": random_clients(COUNT)})


CLIENTS = Workload("clients", "a different client each time: what does a request cost?", _run)

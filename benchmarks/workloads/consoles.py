"""What open consoles cost, alone and with traces of one request in a hundred, and to know the busiest clients."""

import time
from contextlib import ExitStack, nullcontext

from benchmarks.load.listeners import listeners
from benchmarks.load.wrk import Load
from benchmarks.observations import CPU, CPU_AT_REST, VS_UNWATCHED, Observations
from benchmarks.peers import gateway
from benchmarks.peers.base import Proxy
from benchmarks.session import Session
from benchmarks.workloads.base import Workload

_CASE = "64 connections"
_REST = "no requests"
_UNWATCHED = "unwatched"
_WATCHED = "20-consoles"
_TRACED = "20-consoles-traced-1-percent"
_LISTENERS = 20


def _run(session: Session, observations: Observations) -> None:
    # The sink takes what it is sent, and says 200.
    collector = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{session.rig.upstream_url}/sink"}
    # One after the other in each round, so that all meet the same machine.
    peers = [
        gateway(_UNWATCHED),
        gateway(_WATCHED),
        gateway(_TRACED, {**collector, "OTEL_TRACES_SAMPLER_ARG": "0.01"}),
        gateway("no-top-clients", {"TOP_CLIENTS": "0"}),
    ]
    with ExitStack() as stack:
        proxies = session.start(peers, stack)
        for round_number in session.rounds():
            for proxy in proxies:
                watching = listeners(proxy.port, _LISTENERS) if proxy.name in {_WATCHED, _TRACED} else nullcontext()
                with watching:
                    session.measure(observations, _CASE, proxy, round_number, Load())
                    _rest(session, observations, proxy, round_number)
    observations.relate(CPU, VS_UNWATCHED, (_CASE, _UNWATCHED))


def _rest(session: Session, observations: Observations, proxy: Proxy, round_number: int) -> None:
    """Snapshots cost as much a second however many requests there are, so what consoles cost is seen best without any:
    a thousandth of a core for each millisecond."""
    seconds = session.plan.seconds
    before = proxy.child.cpu()
    time.sleep(seconds)
    value = 1000.0 * (proxy.child.cpu() - before) / seconds
    observations.add(_REST, proxy.name, round_number, CPU_AT_REST, value)


CONSOLES = Workload(
    "consoles", "what do 20 open consoles cost, with traces of 1 % besides, and the busiest clients?", _run
)

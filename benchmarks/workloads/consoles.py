"""What open consoles cost, and what it costs to know the busiest clients."""

from contextlib import ExitStack, nullcontext

from benchmarks.load.listeners import listeners
from benchmarks.load.wrk import Load
from benchmarks.observations import CPU, VS_UNWATCHED, Observations
from benchmarks.peers import gateway
from benchmarks.session import Session
from benchmarks.workloads.base import Workload

_CASE = "64 connections"
_UNWATCHED = "unwatched"
_WATCHED = "20-consoles"
_LISTENERS = 20


def _run(session: Session, observations: Observations) -> None:
    # One after the other in each round, so that both meet the same machine.
    peers = [gateway(_UNWATCHED), gateway(_WATCHED), gateway("no-top-clients", {"TOP_CLIENTS": "0"})]
    with ExitStack() as stack:
        proxies = session.start(peers, stack)
        for round_number in session.rounds():
            for proxy in proxies:
                watching = listeners(proxy.port, _LISTENERS) if proxy.name == _WATCHED else nullcontext()
                with watching:
                    session.measure(observations, _CASE, proxy, round_number, Load())
    observations.relate(CPU, VS_UNWATCHED, (_CASE, _UNWATCHED))


CONSOLES = Workload("consoles", "what do 20 open consoles cost, and the busiest clients?", _run)

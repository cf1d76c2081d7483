"""What traces cost: none, one request in a hundred, and all of them."""

from contextlib import ExitStack

from benchmarks.load.wrk import Load
from benchmarks.observations import CPU, VS_UNTRACED, Observations
from benchmarks.peers import gateway
from benchmarks.session import Session
from benchmarks.workloads.base import Workload

_CASE = "64 connections"
_UNTRACED = "untraced"
_RATIOS = {"traced-1-percent": "0.01", "traced-all": "1"}


def _run(session: Session, observations: Observations) -> None:
    # The sink takes what it is sent, and says 200.
    collector = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{session.rig.upstream_url}/sink"}
    peers = [gateway(_UNTRACED)]
    peers += [gateway(name, {**collector, "OTEL_TRACES_SAMPLER_ARG": ratio}) for name, ratio in _RATIOS.items()]
    with ExitStack() as stack:
        proxies = session.start(peers, stack)
        for round_number in session.rounds():
            for proxy in proxies:
                session.measure(observations, _CASE, proxy, round_number, Load())
    observations.relate(CPU, VS_UNTRACED, (_CASE, _UNTRACED))


TRACES = Workload("traces", "what do traces cost, of one request in a hundred and of all?", _run)

"""One hot client: everything from one address, over 64 connections."""

from contextlib import ExitStack

from benchmarks.load.wrk import Load
from benchmarks.observations import CPU, REDIS_EXECUTED, REDIS_SENT, VS_NGINX, Observations
from benchmarks.peers import GATEWAY, NGINX, PEERS
from benchmarks.session import Session, redis_commands_sent
from benchmarks.workloads.base import Workload

_CASE = "64 connections"


def _run(session: Session, observations: Observations) -> None:
    with ExitStack() as stack:
        proxies = session.start(PEERS, stack)
        for round_number in session.rounds():
            for proxy in proxies:
                ours = proxy.name == GATEWAY.name
                sent = redis_commands_sent(proxy) if ours else 0.0
                executed = session.rig.redis_commands() if proxy.uses_redis else 0
                result = session.measure(observations, _CASE, proxy, round_number, Load())
                if result is not None and proxy.uses_redis:
                    executed = session.rig.redis_commands() - executed
                    observations.add(_CASE, proxy.name, round_number, REDIS_EXECUTED, executed / result.requests)
                if result is not None and ours:
                    sent = redis_commands_sent(proxy) - sent
                    observations.add(_CASE, proxy.name, round_number, REDIS_SENT, sent / result.requests)
    observations.relate(CPU, VS_NGINX, (_CASE, NGINX.name))


HOT = Workload("hot", "one hot client: what does a request cost?", _run)

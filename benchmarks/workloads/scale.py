"""What must not grow: the cost of a request with the number of routes, and with the number of clients ever seen."""

from contextlib import ExitStack

from benchmarks.load import wrk
from benchmarks.observations import CPU, VS_FEW, Observations
from benchmarks.peers import Proxy, gateway
from benchmarks.session import Session
from benchmarks.workloads.base import Workload
from benchmarks.workloads.clients import TRUSTING

_ROUTES = 1000
_FEW_CLIENTS = 1000
# Slower than any proxy worth measuring: how long seeding may take.
_SEEDING_RATE = 4000


def _routes_file(session: Session, count: int) -> dict[str, object]:
    """`count` routes, among them /r0000/ which the load uses."""
    rig = session.rig
    return {
        "upstreams": {"behind": {"endpoints": [f"127.0.0.1:{rig.upstream_port}"]}},
        "routes": [
            {"name": f"r{number:04d}", "prefix": f"/r{number:04d}/", "upstream": "behind"} for number in range(count)
        ],
    }


def _routes(session: Session, observations: Observations) -> None:
    load = wrk.Load("/r0000/ok")
    with ExitStack() as stack:
        peers = [gateway(f"gateway-{count}-routes", routes=_routes_file(session, count)) for count in (1, _ROUTES)]
        proxies = session.start(peers, stack)
        for round_number in session.rounds():
            for proxy in _alternating(proxies, round_number):
                session.measure(observations, "routes", proxy, round_number, load)
        observations.relate(CPU, VS_FEW, ("routes", peers[0].name))


def _seen(session: Session, observations: Observations) -> None:
    many = session.plan.many_clients
    load = wrk.random_clients(_FEW_CLIENTS)
    with ExitStack() as stack:
        peers = [gateway(f"gateway-{count}-seen", TRUSTING) for count in (_FEW_CLIENTS, many)]
        proxies = session.start(peers, stack)
        # They exist before and stay: buckets that are full again are forgotten.
        for proxy, count in zip(proxies, (_FEW_CLIENTS, many), strict=True):
            result = wrk.run(session.rig, proxy.url, wrk.each_client(count), max(3.0, count / _SEEDING_RATE))
            if result.requests < 0.9 * count:
                session.note(f"seen: {proxy.name} has seen {result.requests:,} clients only")
        for round_number in session.rounds():
            for proxy in _alternating(proxies, round_number):
                session.measure(observations, "clients seen", proxy, round_number, load)
        observations.relate(CPU, VS_FEW, ("clients seen", peers[0].name))


def _alternating(items: list[Proxy], round_number: int) -> list[Proxy]:
    """So that neither is always the first."""
    return items if round_number % 2 else items[::-1]


ROUTES = Workload("routes", "1 route and 1,000 routes: does a request cost the same?", _routes)
SEEN = Workload("seen", "1,000 clients and very many clients seen: does a request cost the same?", _seen)

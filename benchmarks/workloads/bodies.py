"""Bodies of 1 KB and 64 KB at full speed, and of 100 MB one at a time, in both directions."""

from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.load import bulk
from benchmarks.load.wrk import Load, uploads
from benchmarks.observations import CPU_PER_MIB, PEAK_GROWTH, THROUGHPUT, VS_NGINX, Observations
from benchmarks.peers import GATEWAY, NGINX, Proxy
from benchmarks.rig import SIZES
from benchmarks.session import MIB, Session
from benchmarks.workloads.base import Workload, side_by_side

_PEERS = (NGINX, GATEWAY)


def _small(session: Session, observations: Observations) -> None:
    loads = {
        "1 KB down": Load("/proxy/bytes/1k"),
        "64 KB down": Load("/proxy/bytes/64k"),
        "1 KB up": uploads(SIZES["1k"]),
        "64 KB up": uploads(SIZES["64k"]),
    }
    seconds = min(2.0, session.plan.seconds)
    side_by_side(session, observations, _PEERS, loads, rounds=1 if session.plan.quick else 3, seconds=seconds)


def _large(session: Session, observations: Observations) -> None:
    size = SIZES["100m"]
    rig = session.rig

    def down(proxy: Proxy) -> tuple[int, float]:
        return bulk.download(rig, proxy.port, "/proxy/bytes/100m")

    def up(proxy: Proxy) -> tuple[int, float]:
        return bulk.upload(rig, proxy.port, "/proxy/sink", size)

    cases: dict[str, Callable[[Proxy], tuple[int, float]]] = {"100 MB down": down, "100 MB up": up}
    with ExitStack() as stack:
        proxies = session.start(_PEERS, stack)
        for proxy in proxies:
            down(proxy)
        for round_number in session.rounds(3):
            for case, transfer in cases.items():
                for proxy in proxies:
                    child = proxy.child
                    child.reset_peak()
                    resident, cpu = child.resident_bytes(), child.cpu()
                    try:
                        count, seconds = transfer(proxy)
                    except OSError as error:
                        session.note(f"{case}, {proxy.name}: {error}")
                        continue
                    values = {
                        THROUGHPUT: count / MIB / seconds,
                        CPU_PER_MIB: (child.cpu() - cpu) * 1e6 / (count / MIB),
                        PEAK_GROWTH: max(0, child.resident_peak_bytes() - resident) / MIB,
                    }
                    for metric, value in values.items():
                        observations.add(case, proxy.name, round_number, metric, value)
    observations.relate(THROUGHPUT, VS_NGINX, ("", NGINX.name))


BODIES = Workload("bodies", "bodies of 1 KB and 64 KB: what does a request cost?", _small)
LARGE = Workload("large", "a body of 100 MB: how fast is it, and does memory stay flat? (x nginx is of MiB/s)", _large)

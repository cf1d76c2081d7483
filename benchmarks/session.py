"""One run of the benchmark: how long, how often, against whom; and the measuring of one proxy under one load."""

import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.children import ChildFailed
from benchmarks.load import wrk
from benchmarks.observations import CPU, FAILED, P50, P99, RATE, REDIS_CPU, REFUSED, RESIDENT, Observations
from benchmarks.peers import GATEWAY, NGINX, PEERS, Peer, Proxy
from benchmarks.rig import Rig

MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """`limit` bounds the whole run in seconds, `rounds` and `seconds` one workload and one measurement."""

    quick: bool
    limit: float
    rounds: int
    seconds: float
    idle_connections: int
    many_clients: int


FULL = Plan(quick=False, limit=570.0, rounds=5, seconds=3.0, idle_connections=10_000, many_clients=200_000)
QUICK = Plan(quick=True, limit=112.0, rounds=2, seconds=1.0, idle_connections=2_000, many_clients=10_000)


@dataclass
class Session:
    """`notes` is what a reader of the report must know: what is missing, skipped, or went wrong."""

    rig: Rig
    plan: Plan
    deadline: float
    absent: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    @property
    def out_of_time(self) -> bool:
        return time.monotonic() >= self.deadline

    def rounds(self, count: int | None = None) -> Iterator[int]:
        """Numbers from 1, fewer when the time is over."""
        for number in range(1, (count or self.plan.rounds) + 1):
            if self.out_of_time:
                self.note(f"out of time after {number - 1} rounds")
                return
            yield number

    def note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def start(self, peers: Sequence[Peer], stack: ExitStack) -> list[Proxy]:
        """Start those that are there, on an empty Redis; `stack` ends them.

        Raises `ChildFailed` for the gateway or nginx, without which there is nothing to say; others are noted.
        """
        self.rig.flush_redis()
        proxies = []
        for peer in peers:
            if peer.name in self.absent:
                continue
            try:
                proxy = peer.start(self.rig)
            except ChildFailed as error:
                if peer not in PEERS or peer in (NGINX, GATEWAY):
                    raise
                self.note(f"{peer.name} did not start: {error}")
                continue
            stack.enter_context(proxy.child)
            proxies.append(proxy)
            if peer.warm_up:
                wrk.run(self.rig, proxy.url, wrk.Load(), peer.warm_up)
        return proxies

    def measure(
        self,
        observations: Observations,
        case: str,
        proxy: Proxy,
        round_number: int,
        load: wrk.Load,
        *,
        seconds: float | None = None,
    ) -> wrk.Result | None:
        """One measurement of one proxy into `observations`; None, and a note, when the load generator failed."""
        redis_before = self.rig.redis_child.cpu()
        before = proxy.child.cpu()
        try:
            result = wrk.run(self.rig, proxy.url, load, seconds or self.plan.seconds)
        except wrk.LoadFailed as error:
            self.note(f"{case}, {proxy.name}: {error}")
            return None
        cpu = proxy.child.cpu() - before

        values = {
            CPU: cpu * 1e6 / result.requests,
            RATE: result.requests / result.seconds,
            P50: result.p50_ms,
            P99: result.p99_ms,
            RESIDENT: proxy.child.resident_bytes() / MIB,
            FAILED: result.failed,
            REFUSED: 100.0 * result.refused / result.requests,
        }
        if proxy.uses_redis:
            values[REDIS_CPU] = (self.rig.redis_child.cpu() - redis_before) * 1e6 / result.requests
        for metric, value in values.items():
            observations.add(case, proxy.name, round_number, metric, value)
        return result


def redis_commands_sent(proxy: Proxy) -> float:
    """What a gateway says that it has sent to Redis (`redis_commands_total`, all commands)."""
    with urllib.request.urlopen(f"{proxy.url}/metrics", timeout=5.0) as answer:  # noqa: S310 - http, ours
        return counter_total(answer.read().decode(), "redis_commands_total")


def counter_total(exposition: str, name: str) -> float:
    """The sum over all series of one counter in Prometheus text."""
    total = 0.0
    for line in exposition.splitlines():
        if line.startswith((f"{name} ", f"{name}{{")):
            total += float(line.rpartition("}")[2].split()[0] if "}" in line else line.split()[1])
    return total

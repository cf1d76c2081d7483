"""What a workload is, and the measuring that most of them share."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from benchmarks.load.wrk import Load
from benchmarks.observations import CPU, VS_NGINX, Observations
from benchmarks.peers import NGINX, Peer
from benchmarks.session import Session


@dataclass(frozen=True, slots=True)
class Workload:
    """`run` measures into the observations. `question` is what its figures answer. One that is
    `on_demand` takes long, and runs only where it is named."""

    name: str
    question: str
    run: Callable[[Session, Observations], None]
    on_demand: bool = False


def side_by_side(
    session: Session,
    observations: Observations,
    peers: Sequence[Peer],
    loads: dict[str, Load],
    *,
    rounds: int | None = None,
    seconds: float | None = None,
) -> None:
    """Every peer under every load (by case), round by round, with the ratio to nginx."""
    with ExitStack() as stack:
        proxies = session.start(peers, stack)
        for round_number in session.rounds(rounds):
            for case, load in loads.items():
                for proxy in proxies:
                    session.measure(observations, case, proxy, round_number, load, seconds=seconds)
    observations.relate(CPU, VS_NGINX, ("", NGINX.name))

"""An upstream that loses nine tenths of its capacity under a constant load, and gets it back.

    capacity   20 workers, 50 ms a request: 400 a second      2 of them are left from second 8 to 28
    load       300 requests a second whatever is answered; a client leaves after 2 s and does not come again
    mixture    5 % critical (/pay), 75 % normal (/work), 20 % background (/batch)

Measured from the cut on: how many a second are answered in time, of the 40 that the upstream can do; the 99th
percentile of those that were; how many of the critical ones were. And how long after the capacity is back at least 90 %
of the load is answered, in three seconds in a row.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from benchmarks.children import Child
from benchmarks.host import free_port, pinned
from benchmarks.load.open_loop import GONE
from benchmarks.observations import (
    CRITICAL_SERVED,
    GOODPUT,
    P99,
    RECOVERY,
    REFUSED,
    TOO_LATE,
    Observations,
)
from benchmarks.peers import Peer, envoy_adaptive, gateway
from benchmarks.rig import Rig, program_environment
from benchmarks.session import Session
from benchmarks.workloads.base import Workload

_WORKERS: Final = 20
_LEFT: Final = 2
_SERVICE: Final = 0.05
_RATE: Final = 300.0
_PATIENCE: Final = 2.0
_CUT: Final = 8
_MENDED: Final = 28
_END: Final = 40
_MIXTURE: Final = {"/pay": 0.05, "/work": 0.75, "/batch": 0.20}
_CASE: Final = "a tenth of the capacity"

Answer = tuple[float, str, int, float]
"""When a request was sent, its path, the status (GONE: none in time), and the seconds that it took."""


def _routes(port: int, limit: int, mode: str) -> object:
    common = {"upstream": "weak", "rate_limit": None}
    adaptive = {"mode": mode, "min": 8, "initial": 64}
    return {
        "upstreams": {
            "weak": {
                "endpoints": [f"127.0.0.1:{port}"],
                "bulkhead": {"limit": limit, "client_share": 1, "adaptive": adaptive},
            }
        },
        "routes": [
            {"name": "pay", "prefix": "/pay", "priority": "critical", **common},
            {"name": "work", "prefix": "/work", **common},
            {"name": "batch", "prefix": "/batch", "priority": "background", **common},
        ],
    }


def _peers(port: int) -> list[Peer]:
    env = {"MAX_INFLIGHT_CLIENT_SHARE": "1"}
    return [
        gateway("gateway-adaptive", env, routes=_routes(port, 1000, "enforce")),
        gateway("gateway-fixed-64", env, routes=_routes(port, 64, "off")),
        gateway("gateway-fixed-1000", env, routes=_routes(port, 1000, "off")),
        envoy_adaptive(port),
    ]


def _run(session: Session, observations: Observations) -> None:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.weak_upstream", str(port), str(_WORKERS), str(_SERVICE)]
    rig = session.rig
    for round_number in session.rounds(min(3, session.plan.rounds)):
        for peer in _peers(port):
            if peer.name in session.absent or (peer.name.startswith("envoy") and "envoy" in session.absent):
                continue
            with ExitStack() as stack:
                # Each begins with an upstream without a queue, and knows nothing of the one before.
                upstream = Child(
                    "weak", command, core=rig.cores.load, directory=rig.directory, env=program_environment()
                )
                stack.enter_context(upstream)
                upstream.wait_listening(port)
                (proxy,) = session.start([peer], stack)
                answers = _load(rig, proxy.port, port)
            _observe(observations, proxy.name, round_number, answers)


def _load(rig: Rig, port: int, upstream: int) -> list[Answer]:
    plan = {
        "rate": _RATE,
        "seconds": float(_END),
        "patience": _PATIENCE,
        "paths": _MIXTURE,
        "changes": [(float(_CUT), _LEFT), (float(_MENDED), _WORKERS)],
    }
    with pinned(rig.cores.load):
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.load.open_loop", str(port), str(upstream)],
            input=json.dumps(plan),
            env=program_environment(),
            capture_output=True,
            text=True,
            timeout=_END + 30,
            check=True,
        )
    return [
        (began, path, status, seconds) for began, path, status, seconds in map(json.loads, done.stdout.splitlines())
    ]


def _observe(observations: Observations, proxy: str, round_number: int, answers: Sequence[Answer]) -> None:
    cut = [answer for answer in answers if _CUT <= answer[0] < _MENDED - _PATIENCE]
    good = sorted(seconds for _, _, status, seconds in cut if status == 200)
    critical = [answer for answer in cut if answer[1] == "/pay"]
    length = _MENDED - _PATIENCE - _CUT
    values = {
        GOODPUT: 100.0 * len(good) / length / (_LEFT / _SERVICE),
        P99: 1000.0 * good[int(0.99 * (len(good) - 1))] if good else float("nan"),
        CRITICAL_SERVED: 100.0 * sum(status == 200 for _, _, status, _ in critical) / max(1, len(critical)),
        REFUSED: 100.0 * sum(status not in {200, GONE} for _, _, status, _ in cut) / max(1, len(cut)),
        TOO_LATE: 100.0 * sum(status == GONE for _, _, status, _ in cut) / max(1, len(cut)),
    }
    recovery = _recovery(answers)
    if recovery is not None:
        values[RECOVERY] = float(recovery)
    for metric, value in values.items():
        observations.add(_CASE, proxy, round_number, metric, value)


def _recovery(answers: Sequence[Answer]) -> int | None:
    """Seconds from when the capacity was back until 90 % of three seconds' requests are answered; None: never."""
    sent, good = [0] * (_END + 1), [0] * (_END + 1)
    for began, _, status, _ in answers:
        sent[int(began)] += 1
        good[int(began)] += status == 200
    for second in range(_MENDED, _END - 2):
        if sum(good[second : second + 3]) >= 0.9 * sum(sent[second : second + 3]):
            return second - _MENDED
    return None


OVERLOAD = Workload(
    "overload",
    "an upstream loses nine tenths of its capacity: what is still answered, and how soon?",
    _run,
    on_demand=True,
)

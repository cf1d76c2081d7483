"""POSTs on a route that delivers: each is in the journal before it is answered, and goes to the upstream after that.

    journalled   64 connections: how many are answered with 202 a second, while the relay delivers what it can
    delivered    without load: how many of those that are left the relay delivers a second

The SQLite file is in the directory of the run, so the figures are those of its disk. PostgreSQL is measured with
`--postgresql DIR`, or where BENCH_POSTGRESQL names a database with the tables of the journal.
"""

import os
import time
import urllib.request
from contextlib import ExitStack

from benchmarks.load.wrk import Load
from benchmarks.observations import CPU, RATE, Observations
from benchmarks.peers import Proxy, gateway
from benchmarks.session import Session, counter_total
from benchmarks.workloads.base import Workload

_DELIVERED = 'outbox_attempts_total{target="hooks",outcome="delivered"}'
_POST = Load("/hooks/ok", scripts=("body.lua",), arguments=("200",))
# More attempts at once than by default: the upstream is near and quick.
_DELIVER = {"enabled": True, "concurrency": 64}


def _run(session: Session, observations: Observations) -> None:
    route = {"name": "hooks", "prefix": "/hooks", "upstream": "target", "methods": ["POST"]}
    upstreams = {"target": {"endpoints": [session.rig.upstream_url]}}
    at_once = {"upstreams": upstreams, "routes": [route]}
    kept = {"upstreams": upstreams, "routes": [{**route, "deliver": _DELIVER}]}
    journals = {"sqlite": f"sqlite:///{session.rig.directory}/outbox.db"}
    if "BENCH_POSTGRESQL" in os.environ:
        journals["postgresql"] = os.environ["BENCH_POSTGRESQL"]
    else:
        session.note("outbox: BENCH_POSTGRESQL names no database, so only SQLite is measured")
    for name, url in journals.items():
        # One after the other: each goes on to deliver when its load has ended.
        delivering = gateway(
            name, {"JOURNAL_URL": url, "OUTBOX_MAX_PENDING": "10000000", "OUTBOX_MAX_BYTES": "1TiB"}, routes=kept
        )
        with ExitStack() as stack:
            plain, proxy = session.start([gateway("without", routes=at_once), delivering], stack)
            for number in session.rounds():
                if name == next(iter(journals)):
                    session.measure(observations, "journalled", plain, number, _POST)
                session.measure(observations, "journalled", proxy, number, _POST)
                _deliver(session, observations, proxy, number)


def _deliver(session: Session, observations: Observations, proxy: Proxy, number: int) -> None:
    before, cpu, began = _delivered(proxy), proxy.child.cpu(), time.perf_counter()
    time.sleep(session.plan.seconds)
    count, seconds = _delivered(proxy) - before, time.perf_counter() - began
    if not count:
        session.note(f"delivered, {proxy.name}: nothing was left")
        return
    observations.add("delivered", proxy.name, number, RATE, count / seconds)
    observations.add("delivered", proxy.name, number, CPU, (proxy.child.cpu() - cpu) * 1e6 / count)


def _delivered(proxy: Proxy) -> float:
    with urllib.request.urlopen(f"{proxy.url}/metrics", timeout=5.0) as answer:  # noqa: S310 - http, ours
        return counter_total(answer.read().decode(), _DELIVERED)


OUTBOX = Workload("outbox", "requests that are delivered later: how many are kept a second, and how many sent?", _run)

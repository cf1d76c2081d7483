"""POSTs with idempotency keys, each carried out once: two commits of the journal for a request.

    journalled   64 connections: how many a second, with group commit on this disk
    alone        one connection: how much later an answer comes, which is mostly the disk's time for two syncs

The SQLite file is in the directory of the run, so the figures are those of its disk. PostgreSQL is measured with
`--postgresql DIR`, or where BENCH_POSTGRESQL names a database with the tables of the journal.
"""

import os
from contextlib import ExitStack

from benchmarks.load.wrk import Load
from benchmarks.observations import P50, P50_ADDED, Observations
from benchmarks.peers import gateway
from benchmarks.session import Session
from benchmarks.workloads.base import Workload

_KEYED = {"IDEMPOTENCY_MODE": "required", "IDEMPOTENCY_MAX_RECORDS": "10000000"}
_POST = Load("/proxy/ok", scripts=("keys.lua",))
_ALONE = Load("/proxy/ok", connections=1, scripts=("keys.lua",))


def _run(session: Session, observations: Observations) -> None:
    sqlite = f"sqlite:///{session.rig.directory}/journal.db"
    peers = [gateway("without"), gateway("sqlite", {**_KEYED, "JOURNAL_URL": sqlite})]
    postgresql = os.environ.get("BENCH_POSTGRESQL")
    if postgresql is None:
        session.note("keys: BENCH_POSTGRESQL names no database, so only SQLite is measured")
    else:
        peers.append(gateway("postgresql", {**_KEYED, "JOURNAL_URL": postgresql}))
    with ExitStack() as stack:
        proxies = session.start(peers, stack)
        for number in session.rounds():
            for case, load in (("journalled", _POST), ("alone", _ALONE)):
                for proxy in proxies:
                    session.measure(observations, case, proxy, number, load)
    plain = dict(enumerate(observations.values("alone", "without", P50), start=1))
    for name in ("sqlite", "postgresql"):
        for number, value in enumerate(observations.values("alone", name, P50), start=1):
            if number in plain:
                observations.add("alone", name, number, P50_ADDED, value - plain[number])


KEYS = Workload("keys", "requests with idempotency keys: how many a second, and how much later do answers come?", _run)

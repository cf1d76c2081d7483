"""Several workloads in one run."""

import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType

from benchmarks import host, report
from benchmarks.children import ChildFailed
from benchmarks.load.wrk import LoadFailed
from benchmarks.observations import Observations
from benchmarks.peers import PEERS
from benchmarks.rig import open_rig
from benchmarks.session import Plan, Session
from benchmarks.workloads import Workload


@dataclass(frozen=True, slots=True)
class Run:
    """What came out. `failed` names the workloads that broke off, `notes` is what a reader must know, `facts` are for
    the record."""

    sections: list[report.Section]
    failed: list[str]
    notes: list[str]
    facts: dict[str, object]


def perform(plan: Plan, workloads: Sequence[Workload], without: frozenset[str] = frozenset()) -> Run:
    """Run them in order and print each table as it is done. `without` names peers to leave out.

    Raises `Missing` when something that no run can do without is not installed, KeyboardInterrupt on SIGINT and
    SIGTERM; all that was started is stopped first.
    """
    signal.signal(signal.SIGTERM, _interrupt)
    started = time.monotonic()
    machine = host.describe()
    missing = {peer.name: remedy for peer in PEERS if (remedy := peer.missing()) is not None}
    cores = host.choose_cores()
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    for name, remedy in missing.items():
        print(f"missing: {name} ({remedy})")
    if cores.shared:
        print("only one core: proxy and load share it, rates and latencies mean little")
    sections: list[report.Section] = []
    failed: list[str] = []
    with open_rig(cores, host.raise_descriptor_limit()) as rig:
        session = Session(rig, plan, started + plan.limit, frozenset(missing) | without)
        for workload in workloads:
            if session.out_of_time:
                session.note(f"out of time: {workload.name} was skipped")
                continue
            observations = Observations()
            began = time.monotonic()
            try:
                workload.run(session, observations)
            except (ChildFailed, LoadFailed, OSError) as error:
                failed.append(workload.name)
                session.note(f"{workload.name} failed: {error}")
            if observations:
                print(f"\n{workload.name}: {workload.question}  [{time.monotonic() - began:.0f} s]\n")
                print(report.table(observations), flush=True)
                sections.append(report.Section(workload.name, workload.question, observations))
    facts: dict[str, object] = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "host": machine,
        "quick": plan.quick,
        "seconds": round(time.monotonic() - started, 1),
        "peers": {peer.name: peer.protections for peer in PEERS},
        "missing": missing,
        "failed": failed,
        "notes": session.notes,
    }
    return Run(sections, failed, session.notes, facts)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt

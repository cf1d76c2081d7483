"""`python -m benchmarks`: run the workloads, print the tables, write results.json and chart.png."""

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from benchmarks import chart, host, report
from benchmarks.children import ChildFailed
from benchmarks.load.wrk import LoadFailed
from benchmarks.observations import Observations
from benchmarks.peers import PEERS
from benchmarks.rig import ROOT, Missing, open_rig
from benchmarks.session import FULL, QUICK, Session
from benchmarks.workloads import WORKLOADS, Workload


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _interrupt)
    plan = QUICK if arguments.quick else FULL
    chosen = [workload for workload in WORKLOADS if not arguments.only or workload.name in arguments.only]
    started = time.monotonic()
    absent = {peer.name: remedy for peer in PEERS if (remedy := peer.missing()) is not None}
    cores = host.choose_cores()
    facts: dict[str, object] = {"host": host.describe(), "quick": plan.quick, "started_at": time.time()}
    sections: list[report.Section] = []
    try:
        with open_rig(cores, host.raise_descriptor_limit()) as rig:
            session = Session(rig, plan, started + plan.limit, frozenset(absent))
            _announce(facts, absent, shared=cores.shared)
            for workload in chosen:
                _perform(session, workload, sections)
    except Missing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    notes = [f"{name} is missing: {remedy}" for name, remedy in absent.items()] + session.notes
    seconds = round(time.monotonic() - started, 1)
    facts |= {"seconds": seconds, "notes": notes, "peers": {peer.name: peer.protections for peer in PEERS}}
    output: Path = arguments.output
    report.write_json(output / "results.json", sections, facts)
    if chart.missing():
        notes.append(f"no chart: {chart.missing()}")
    else:
        chart.write_png(output / "chart.png", sections)
    for note in notes:
        print(f"note: {note}")
    print(f"{seconds} s; {output / 'results.json'}")
    return 0


def _perform(session: Session, workload: Workload, sections: list[report.Section]) -> None:
    if session.out_of_time:
        session.note(f"out of time: {workload.name} was skipped")
        return
    observations = Observations()
    began = time.monotonic()
    try:
        workload.run(session, observations)
    except (ChildFailed, LoadFailed, OSError) as error:
        session.note(f"{workload.name} failed: {error}")
    if observations:
        sections.append(report.Section(workload.name, workload.question, observations))
        print(f"\n{workload.name}: {workload.question}  [{time.monotonic() - began:.0f} s]\n")
        print(report.table(observations), flush=True)


def _announce(facts: dict[str, object], absent: dict[str, str], *, shared: bool) -> None:
    machine = ", ".join(f"{key} {value}" for key, value in host.describe().items())
    facts["absent"] = absent
    print(machine)
    for name, remedy in absent.items():
        print(f"missing: {name} ({remedy})")
    if shared:
        print("only one core: proxy and load share it, rates and latencies mean little")
    sys.stdout.flush()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description="The gateway and its peers, side by side.")
    parser.add_argument("--quick", action="store_true", help="less of everything, in under two minutes")
    parser.add_argument("--only", type=lambda text: text.split(","), help="workloads: " + names())
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results", help="where results are written")
    return parser


def names() -> str:
    return ", ".join(workload.name for workload in WORKLOADS)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks`: run the workloads, print the tables, write results.json and chart.png.

Exit status: 0 done, 1 a workload broke off, 2 something that no run can do without is not installed.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from benchmarks import chart, report
from benchmarks.postgresql import postgresql
from benchmarks.rig import ROOT, Missing
from benchmarks.session import FULL, QUICK
from benchmarks.suite import perform
from benchmarks.workloads import WORKLOADS


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    only = arguments.only
    chosen = [each for each in WORKLOADS if (each.name in only if only else not each.on_demand)]
    try:
        with ExitStack() as stack:
            if arguments.postgresql is not None:
                os.environ["BENCH_POSTGRESQL"] = stack.enter_context(postgresql(arguments.postgresql))
            run = perform(QUICK if arguments.quick else FULL, chosen)
        if arguments.postgresql is not None:
            run.notes.append(f"PostgreSQL with fsync and synchronous_commit, its data below {arguments.postgresql}")
    except Missing as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130
    output: Path = arguments.output
    report.write_json(output / "results.json", run.sections, run.facts)
    written = [output / "results.json"]
    remedy = chart.missing()
    if remedy is None:
        if chart.write_png(output / "chart.png", run.sections):
            written.append(output / "chart.png")
    else:
        run.notes.append(f"no chart without matplotlib: {remedy}")
    print()
    for note in run.notes:
        print(f"note: {note}")
    print(f"{run.facts['seconds']} s, {' and '.join(str(path) for path in written)}")
    return 1 if run.failed else 0


def _names(text: str) -> list[str]:
    known = {workload.name for workload in WORKLOADS}
    names = text.split(",")
    unknown = [name for name in names if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}; there are {', '.join(sorted(known))}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="benchmarks", description="The gateway and its peers, side by side.")
    parser.add_argument("--quick", action="store_true", help="less of everything, in under two minutes")
    parser.add_argument("--only", type=_names, metavar="WORKLOADS", help="a comma list of workloads")
    parser.add_argument(
        "--postgresql", type=Path, metavar="DIR", help="measure the journal in a PostgreSQL, too, its data below DIR"
    )
    parser.add_argument(
        "--output", type=Path, default=ROOT / "benchmarks" / "results", help="where results are written"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())

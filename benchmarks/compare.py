"""`python -m benchmarks.compare`: measure anew, compare with `benchmarks/baseline.json`, say what got worse.

Exit status: 0 nothing got worse beyond noise, 1 something did, 2 it could not be measured. What looks worse in the
first measurement is measured once more before it is called so. `--accept` writes the baseline instead of comparing,
`--micro` leaves the runs side by side with nginx out.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks import baseline, host
from benchmarks.baseline import Change, Figure
from benchmarks.micro.__main__ import measure
from benchmarks.peers import GATEWAY, NGINX, PEERS
from benchmarks.report import columns
from benchmarks.rig import Missing
from benchmarks.session import QUICK, Plan
from benchmarks.suite import perform
from benchmarks.workloads import WORKLOADS

PATH = Path(__file__).with_name("baseline.json")
_WORKLOADS = ("hot", "clients", "refusals", "routes", "busy")
_PLAN = Plan(
    quick=True,
    limit=150.0,
    rounds=3,
    seconds=1.0,
    idle_connections=QUICK.idle_connections,
    many_clients=QUICK.many_clients,
)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.compare", description="Compare with the committed ratios.")
    parser.add_argument("--accept", action="store_true", help="write the figures as the new baseline")
    parser.add_argument("--micro", action="store_true", help="only the micro-benchmarks")
    arguments = parser.parse_args(argv)
    if not arguments.accept and not PATH.exists():
        print(f"compare: there is no {PATH}; --accept writes one", file=sys.stderr)
        return 2
    try:
        machine = host.describe()
        facts = {"python": machine["python"], "cpu": machine["cpu"]}
        old = {} if arguments.accept else _existing()
        if old and baseline.facts(PATH) != facts:
            print(f"note: the baseline is of {_named(baseline.facts(PATH))}, this is {_named(facts)}")
        new = _measure(micro_only=arguments.micro)
        if arguments.accept:
            kept = {name: figure for name, figure in _existing().items() if not name.startswith("micro/")}
            baseline.write(PATH, (kept if arguments.micro else {}) | new, facts)
            print(f"{len(new)} figures written to {PATH}")
            return 0
        changes = baseline.compare(old, new)
        if any(change.worse for change in changes):
            print("\nsomething looks worse: once more\n")
            again = _measure(micro_only=arguments.micro)
            changes = baseline.compare(old, _better_of(new, again))
    except Missing as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except (OSError, ValueError) as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("compare: interrupted", file=sys.stderr)
        return 130
    _print(changes)
    wanted = {name for name in old if not arguments.micro or name.startswith("micro/")}
    for name in sorted(wanted ^ new.keys()):
        print(f"only in {'the baseline' if name in wanted else 'this run'}: {name}")
    return 1 if any(change.worse for change in changes) else 0


def _measure(*, micro_only: bool) -> dict[str, Figure]:
    figures = baseline.of_timings(measure())
    if not micro_only:
        others = frozenset(peer.name for peer in PEERS if peer not in (GATEWAY, NGINX))
        run = perform(_PLAN, [workload for workload in WORKLOADS if workload.name in _WORKLOADS], others)
        for note in run.notes:
            print(f"note: {note}")
        if run.failed:
            raise ValueError(f"{', '.join(run.failed)} broke off")
        figures |= baseline.of_sections(run.sections)
    return figures


def _better_of(first: dict[str, Figure], second: dict[str, Figure]) -> dict[str, Figure]:
    """A disturbance makes things slower, never faster."""
    return {
        name: min(figures, key=lambda figure: figure.value)
        for name in first | second
        if (figures := [run[name] for run in (first, second) if name in run])
    }


def _named(facts: Mapping[str, object]) -> str:
    return f"Python {facts.get('python')} on {facts.get('cpu')}"


def _existing() -> dict[str, Figure]:
    return baseline.read(PATH) if PATH.exists() else {}


def _print(changes: Sequence[Change]) -> None:
    rows = [["figure", "baseline", "now", "change %", "noise %", ""]]
    for change in changes:
        verdict = "WORSE" if change.worse else "better" if change.better else ""
        cells = [f"{change.old:.3f}", f"{change.new:.3f}", f"{100 * change.growth:+.1f}", f"{100 * change.noise:.1f}"]
        rows.append([change.name, *cells, verdict])
    print()
    print(columns(rows, left=1))
    print(f"\n{sum(change.worse for change in changes)} of {len(changes)} figures are worse")


if __name__ == "__main__":
    sys.exit(main())

"""`python -m benchmarks.simulation`: print a table, and write the charts of docs/overload.md anew."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import columns
from benchmarks.rig import ROOT
from benchmarks.simulation.draw import panels, svg
from benchmarks.simulation.scenarios import (
    BIMODAL,
    CUT,
    MENDED,
    OSCILLATION,
    RAMP,
    SCENARIOS,
    SLOW_START,
    STEP,
    goodput,
    percentile,
    recovered_after,
)
from benchmarks.simulation.upstream import Second, run

_DRAWN = (STEP, RAMP, OSCILLATION, BIMODAL, SLOW_START)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.simulation", description="The adaptive limit, simulated.")
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "overload", help="where the charts go")
    output: Path = parser.parse_args(argv).output
    output.mkdir(parents=True, exist_ok=True)
    rows = [["scenario", "limit", "answered/s", "p50 s", "p99 s", "limits", "recovered after"]]
    for scenario in SCENARIOS:
        adaptive, fixed = run(scenario), run(scenario, fixed=scenario.ceiling)
        for name, seconds in (("adaptive", adaptive), (f"{scenario.ceiling}", fixed)):
            rows.append([scenario.name, name, *_row(seconds)])
        if scenario in _DRAWN:
            path = output / f"{scenario.name.replace(' ', '-')}.svg"
            path.write_text(svg(scenario.name, panels(adaptive, fixed)))
    print(columns(rows, left=2))
    return 0


def _row(seconds: Sequence[Second]) -> list[str]:
    """Of a run whose capacity is cut, the time in which it is, but for the first ten seconds; of others all but the
    first twenty seconds."""
    cut = len(seconds) == 150
    part = seconds[CUT + 10 : MENDED] if cut else seconds[20:]
    after = recovered_after(seconds, MENDED, 300.0) if cut else None
    lowest, highest = min(second.limit for second in part), max(second.limit for second in part)
    return [
        f"{goodput(part):,.1f}",
        f"{percentile(part, 0.5):.3f}",
        f"{percentile(part, 0.99):.3f}",
        f"{lowest:g} to {highest:g}",
        "" if after is None else f"{after} s",
    ]


if __name__ == "__main__":
    sys.exit(main())

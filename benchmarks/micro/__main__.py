"""`python -m benchmarks.micro`: print the table; `--json FILE` writes it as well."""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from benchmarks.micro import path, policies, stores, tokens, traces, validation
from benchmarks.micro.timing import Timing, time_cases
from benchmarks.report import columns


def measure() -> list[Timing]:
    modules = (policies, stores, path, validation, tokens, traces)
    return time_cases(case for module in modules for case in module.cases())


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks.micro", description="Costs of single decisions and stages.")
    parser.add_argument("--json", type=Path, help="write the figures there too")
    arguments = parser.parse_args(argv)
    timings = measure()
    rows = [["case", "ns", "x reference", "spread %"]]
    rows += [[t.name, f"{t.ns:,.0f}", f"{t.ratio:.2f}", f"{100 * t.spread:.1f}"] for t in timings]
    print(columns(rows, left=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps([asdict(timing) for timing in timings], indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

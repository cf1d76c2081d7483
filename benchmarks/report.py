"""A run as text, and as JSON."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.observations import Metric, Observations


@dataclass(frozen=True, slots=True)
class Section:
    """One workload's part of the report."""

    name: str
    question: str
    observations: Observations


def table(observations: Observations) -> str:
    """Medians over the rounds; a metric that a row lacks is a dash."""
    metrics = observations.metrics()
    rows = [["case", "proxy", *(metric.title for metric in metrics)]]
    for case, proxy in observations:
        cells = [_cell(observations.median(case, proxy, metric), metric) for metric in metrics]
        rows.append([case, proxy, *cells])
    return columns(rows, left=2)


def columns(rows: Sequence[Sequence[str]], left: int) -> str:
    """Aligned text: the first `left` columns to the left, the others to the right, a rule under the first row."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if index < left else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    lines.insert(1, "-" * max(len(line) for line in lines))
    return "\n".join(lines)


def _cell(value: float | None, metric: Metric) -> str:
    return "-" if value is None else f"{value:,.{metric.digits}f}"


def write_json(path: Path, sections: Sequence[Section], facts: dict[str, object]) -> None:
    """`facts` (host, plan, peers, notes) beside every value of every round."""
    path.parent.mkdir(parents=True, exist_ok=True)
    workloads = {
        section.name: {"question": section.question, "results": section.observations.as_json()} for section in sections
    }
    path.write_text(json.dumps({**facts, "workloads": workloads}, indent=1, ensure_ascii=False) + "\n")

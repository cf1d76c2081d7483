"""Figures to compare a later run with: ratios only, since absolute ones belong to a machine.

A figure is worse when it has grown by more than its noise explains:

    new / old - 1  >  min(ceiling, max(floor, 3 · sqrt(spread_old² + spread_new²)))

Lower is better for all of them. What one of the two runs lacks is named and does not count as worse.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.micro.timing import Timing
from benchmarks.observations import REDIS_SENT, VS_FEW, VS_FORWARDING, VS_NGINX, spread
from benchmarks.report import Section

FLOOR = 0.15
CEILING = 0.5  # on a machine so busy that noise would explain everything, this much is still worth a look
_SIGMAS = 3.0
_LOWER_IS_BETTER = (VS_NGINX, VS_FORWARDING, VS_FEW, REDIS_SENT)
_RATES = frozenset({"large"})  # where the ratio to nginx is one of throughput


@dataclass(frozen=True, slots=True)
class Figure:
    """A ratio, and its relative spread over the repetitions."""

    value: float
    spread: float


@dataclass(frozen=True, slots=True)
class Change:
    """`growth` is new / old - 1, `noise` the threshold that it is held against."""

    name: str
    old: float
    new: float
    growth: float
    noise: float

    @property
    def worse(self) -> bool:
        return self.growth > self.noise

    @property
    def better(self) -> bool:
        return self.growth < -self.noise


def of_timings(timings: Sequence[Timing]) -> dict[str, Figure]:
    return {f"micro/{timing.name}": Figure(round(timing.ratio, 4), round(timing.spread, 4)) for timing in timings}


def of_sections(sections: Sequence[Section]) -> dict[str, Figure]:
    """Every ratio of the gateway's variants; those that are 1 by definition are left out."""
    figures = {}
    for section in sections:
        if section.name in _RATES:
            continue
        for case, proxy in section.observations:
            if not proxy.startswith("gateway"):
                continue
            for metric in _LOWER_IS_BETTER:
                values = section.observations.values(case, proxy, metric)
                middle = section.observations.median(case, proxy, metric)
                if middle is not None and any(value != 1.0 for value in values):
                    name = f"{section.name}/{case}/{proxy}/{metric.name}"
                    figures[name] = Figure(round(middle, 5), round(spread(values), 4))
    return figures


def compare(old: Mapping[str, Figure], new: Mapping[str, Figure], floor: float = FLOOR) -> list[Change]:
    """What both have, the worst first."""
    changes = []
    for name in old.keys() & new.keys():
        before, after = old[name], new[name]
        if before.value > 0:
            noise = min(CEILING, max(floor, _SIGMAS * math.hypot(before.spread, after.spread)))
            changes.append(Change(name, before.value, after.value, after.value / before.value - 1.0, noise))
    return sorted(changes, key=lambda change: (change.noise - change.growth, change.name))


def read(path: Path) -> dict[str, Figure]:
    """Raises OSError, ValueError."""
    figures: dict[str, dict[str, float]] = json.loads(path.read_text())["figures"]
    return {name: Figure(figure["value"], figure["spread"]) for name, figure in figures.items()}


def facts(path: Path) -> dict[str, object]:
    """What the figures were measured with: "python" and "cpu". Raises OSError, ValueError."""
    return {key: value for key, value in json.loads(path.read_text()).items() if key != "figures"}


def write(path: Path, figures: Mapping[str, Figure], made_with: Mapping[str, object]) -> None:
    content = {**made_with, "figures": {name: asdict(figure) for name, figure in figures.items()}}
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n")

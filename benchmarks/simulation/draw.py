"""Charts of the simulation as SVG, written by hand: they need no library, and a change of them is a change of text."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from benchmarks.simulation.upstream import Second

_WIDTH: Final = 760
_PANEL: Final = 130
_LEFT: Final = 58
_RIGHT: Final = 16
_TOP: Final = 34
_GAP: Final = 30
_INK: Final = "#202124"
_COLOURS: Final = {"offered": "#9aa0a6", "adaptive": "#1a73e8", "fixed": "#d93025"}


@dataclass(frozen=True, slots=True)
class Series:
    """One line: what it is called, its colour's name, and a value for each second. On a logarithmic scale 0 is none."""

    title: str
    colour: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True)
class Panel:
    """One diagram: its title with the unit, and its lines."""

    title: str
    series: Sequence[Series]


def panels(adaptive: Sequence[Second], fixed: Sequence[Second]) -> list[Panel]:
    """What a run shows beside one with a fixed limit."""
    return [
        Panel(
            "requests a second: offered, and answered in time",
            [
                Series("offered", "offered", [second.offered for second in adaptive]),
                Series("fixed limit", "fixed", [second.answered for second in fixed]),
                Series("adaptive limit", "adaptive", [second.answered for second in adaptive]),
            ],
        ),
        Panel(
            "99th percentile of answers, seconds (logarithmic)",
            [
                Series("fixed limit", "fixed", [_p99(second) for second in fixed]),
                Series("adaptive limit", "adaptive", [_p99(second) for second in adaptive]),
            ],
        ),
        Panel("limit", [Series("adaptive limit", "adaptive", [second.limit for second in adaptive])]),
    ]


def svg(title: str, shown: Sequence[Panel]) -> str:
    """A whole document."""
    height = _TOP + len(shown) * (_PANEL + _GAP) + 8
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif">',
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="{_LEFT}" y="18" font-size="14" fill="#202124">{title}</text>',
    ]
    for number, panel in enumerate(shown):
        parts += _panel(panel, _TOP + number * (_PANEL + _GAP))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(panel: Panel, top: float) -> list[str]:
    logarithmic = "logarithmic" in panel.title
    longest = max(len(series.values) for series in panel.series)
    highest = max(max(series.values) for series in panel.series) or 1.0
    bottom, width = top + _PANEL, _WIDTH - _LEFT - _RIGHT
    parts = [f'<rect x="{_LEFT}" y="{top}" width="{width}" height="{_PANEL}" fill="none" stroke="#dadce0"/>']
    for value in _ticks(highest, logarithmic=logarithmic):
        y = bottom - _PANEL * _share(value, highest, logarithmic=logarithmic)
        parts.append(f'<line x1="{_LEFT}" x2="{_LEFT + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#f1f3f4"/>')
        parts.append(_text(_LEFT - 6, y + 4, f"{value:g}", anchor="end"))
    for second in range(0, longest + 1, 30):
        x = _LEFT + width * second / longest
        parts.append(_text(x, bottom + 13, f"{second} s", anchor="middle"))
    parts.append(_text(_LEFT + 6, top + 13, panel.title, colour=_INK))
    for number, series in enumerate(panel.series):
        colour = _COLOURS[series.colour]
        points: list[str] = []
        for second, value in enumerate(series.values):
            if value > 0.0 or not logarithmic:
                y = bottom - _PANEL * _share(value, highest, logarithmic=logarithmic)
                points.append(f"{_LEFT + width * (second + 0.5) / longest:.1f},{y:.1f}")
                continue
            parts += _line(points, colour)
            points = []
        parts += _line(points, colour)
        x = _LEFT + width - 8
        parts.append(_text(x, top + 13 + 13 * number, series.title, anchor="end", colour=colour))
    return parts


def _line(points: Sequence[str], colour: str) -> list[str]:
    if not points:
        return []
    return [f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="1.4"/>']


def _text(x: float, y: float, words: str, *, anchor: str = "start", colour: str = "#5f6368") -> str:
    return f'<text font-size="11" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'


def _share(value: float, highest: float, *, logarithmic: bool) -> float:
    """Where a value is, from 0 at the bottom to 1 at the top. A logarithmic scale begins at a hundredth of a second."""
    if not logarithmic:
        return value / (highest * 1.08)
    return math.log10(max(value, 0.01) / 0.01) / math.log10(max(highest, 0.1) / 0.01 * 1.3)


def _ticks(highest: float, *, logarithmic: bool) -> list[float]:
    if logarithmic:
        return [value for value in (0.01, 0.1, 1.0, 10.0) if value <= max(highest, 0.1) * 1.3]
    step = 10.0 ** (len(str(int(highest))) - 1)
    if highest / step < 3:
        step /= 2.0
    return [step * number for number in range(int(highest / step) + 1)]


def _p99(second: Second) -> float:
    times = sorted(second.times)
    return times[int(0.99 * (len(times) - 1))] if times else 0.0

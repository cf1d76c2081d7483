"""Families as Prometheus text 0.0.4 or OpenMetrics 1.0.0.

`prometheus_client` formats about 80 samples a millisecond, which stops the event loop for 50 ms at 100 routes and 50
upstreams. Here the text of each line is made once and kept, except for its number. So a scrape costs one join, and it
can be made in pieces. The two formats differ in the names of counter and info families, in the type of an info, and in
the closing `# EOF`; the sample lines are the same.

Buckets of OpenMetrics have exemplars: the latest trace of each.

Left out: timestamps, `_created` series, native histograms, names outside the classic character set.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any

from gateway.telemetry.metrics.accept import media_ranges
from gateway.telemetry.metrics.cells import Exemplar, Family, HistogramFamily, Labels
from gateway.telemetry.metrics.snapshot import BOUNDS, COMBINE, KIND, NAMES, SERIES, WORKER, Entry, Parts, labels_of

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

PIECE = 400
"""Lines: well below a millisecond."""

_log = logging.getLogger(__name__)

_ByLabels = Mapping[tuple[str, str], Mapping[int, Exemplar]]
_Reading = tuple[Labels | str, tuple[float, ...], list[int], float, Mapping[int, Exemplar]]


class Exposition:
    """Renders a growing set of families. `add` refuses a name that is already taken."""

    __slots__ = ("_families", "_of_several")

    def __init__(self) -> None:
        self._families: dict[str, _Simple | _Histograms] = {}
        # Families that this process does not have: with a label for the worker, or of another version.
        self._of_several: dict[tuple[Any, ...], _Simple | _Histograms] = {}

    def add(self, family: Family | HistogramFamily) -> None:
        """Add a family. Raises `ValueError` where there is one of this name already."""
        if family.name in self._families:
            raise ValueError(f"metric {family.name!r} exists already")
        self._families[family.name] = _Simple(family) if isinstance(family, Family) else _Histograms(family)

    @property
    def families(self) -> tuple[Family | HistogramFamily, ...]:
        """All families, in the order in which they were added."""
        return tuple(rendered.family for rendered in self._families.values())

    def render(self, *, openmetrics: bool) -> bytes:
        """All families in the order in which they were added.

        A family whose reader raises is left out and logged: one broken gauge must not blind the operator to the rest.
        """
        return b"".join(self.pieces(openmetrics=openmetrics))

    def pieces(self, *, openmetrics: bool) -> Iterator[bytes]:
        """The same in pieces of about `PIECE` lines, for whoever must not be away from the event loop for long.

        Every value is read now; the text is made as the pieces are asked for. So what is derived from one cell agrees
        in all families, however long the pieces take.
        """
        readings: list[tuple[_Simple | _Histograms, list[Any]]] = []
        for rendered in self._families.values():
            try:
                readings.append((rendered, rendered.reading()))
            except Exception:  # noqa: BLE001 - whatever a reader raises, see above
                _log.exception("metric could not be read", extra={"metric": rendered.family.name})
        return _pieces(readings, openmetrics=openmetrics)

    def pieces_of_several(self, parts: Parts, *, openmetrics: bool) -> Iterator[bytes]:
        """The figures of several workers, in pieces. They are combined family by family as the pieces are asked for."""
        exemplars = parts.exemplars() if openmetrics else {}
        for name in parts.names:
            try:
                entry = parts.combined(name)
                rendered = self._rendered(name, entry)
                reading = rendered.reading_of(entry, exemplars)
                made = list(_pieces([(rendered, reading)], openmetrics=openmetrics, end=False))
            except Exception:  # noqa: BLE001 - what comes from another process may be of another version
                _log.exception("metric could not be combined", extra={"metric": name})
            else:
                yield from made
        if openmetrics:
            yield b"# EOF\n"

    def _rendered(self, name: str, entry: Entry) -> "_Simple | _Histograms":
        own = self._families.get(name)
        if own is not None and entry[COMBINE] != WORKER:
            return own
        key = name, entry[KIND], *entry[NAMES]
        rendered = self._of_several.get(key)
        if rendered is None:
            documentation = own.family.documentation if own is not None else ""
            names = tuple(entry[NAMES])
            if entry[KIND] == "histogram":
                rendered = _Histograms(HistogramFamily(name, documentation, names, tuple))
            else:
                rendered = _Simple(Family(name, entry[KIND], documentation, names, tuple))
            self._of_several[key] = rendered
        return rendered


def _pieces(
    readings: "list[tuple[_Simple | _Histograms, list[Any]]]", *, openmetrics: bool, end: bool = True
) -> Iterator[bytes]:
    parts: list[str] = []
    for rendered, reading in readings:
        parts.append(rendered.openmetrics_head if openmetrics else rendered.text_head)
        step = rendered.series_in_piece
        for start in range(0, len(reading), step):
            try:
                parts += rendered.lines(reading[start : start + step], openmetrics=openmetrics)
            except Exception:  # noqa: BLE001 - a reader may yield what is no number
                _log.exception("metric could not be rendered", extra={"metric": rendered.family.name})
                break
            if len(parts) >= PIECE:
                yield "".join(parts).encode()
                parts = []
    if openmetrics and end:
        parts.append("# EOF\n")
    yield "".join(parts).encode()


def negotiate(accept: str | None) -> bool:
    """Whether an `Accept` value (RFC 9110 section 12.5.1) prefers OpenMetrics to the text format.

    Only an explicit `application/openmetrics-text` counts: wildcards mean a person or an old scraper, who get text.
    """
    openmetrics = text = 0.0
    for media, quality in media_ranges(accept or ""):
        if media == "application/openmetrics-text":
            openmetrics = max(openmetrics, quality)
        elif media in {"text/plain", "text/*"}:
            text = max(text, quality)
    return openmetrics > 0 and openmetrics >= text


class _Simple:
    __slots__ = ("_prefixes", "family", "openmetrics_head", "text_head")
    series_in_piece = PIECE

    def __init__(self, family: Family) -> None:
        self.family = family
        self._prefixes: dict[Labels | str, str] = {}
        stem = family.name.removesuffix({"counter": "_total", "info": "_info"}.get(family.kind, ""))
        if family.kind != "gauge" and stem == family.name:
            raise ValueError(f"a {family.kind} named {family.name!r}: the suffix is missing")
        self.text_head = _head(family.name, "gauge" if family.kind == "info" else family.kind, family.documentation)
        self.openmetrics_head = _head(stem, family.kind, family.documentation)

    def reading(self) -> list[tuple[Labels, float]]:
        return list(self.family.read())

    def reading_of(self, entry: Entry, exemplars: _ByLabels) -> list[tuple[str, float]]:
        return list(entry[SERIES].items())

    def lines(self, reading: Iterable[tuple[Labels | str, float]], *, openmetrics: bool) -> list[str]:
        prefixes = self._prefixes
        lines = []
        for labels, value in reading:
            prefix = prefixes.get(labels)
            if prefix is None:
                prefix = prefixes[labels] = f"{self.family.name}{_braces(self.family.label_names, labels)} "
            lines.append(f"{prefix}{value if type(value) is int else number(value)}\n")
        return lines


class _Histograms:
    __slots__ = ("_prefixes", "family", "openmetrics_head", "text_head")
    series_in_piece = PIECE // 16

    def __init__(self, family: HistogramFamily) -> None:
        self.family = family
        self._prefixes: dict[Labels | str, tuple[list[str], str, str]] = {}
        self.text_head = self.openmetrics_head = _head(family.name, "histogram", family.documentation)

    def reading(self) -> list[_Reading]:
        return [
            (labels, histogram.bounds, histogram.buckets[:], histogram.total, dict(histogram.exemplars or {}))
            for labels, histogram in self.family.read()
        ]

    def reading_of(self, entry: Entry, exemplars: _ByLabels) -> list[_Reading]:
        bounds, name = tuple(entry[BOUNDS]), self.family.name
        return [
            (key, bounds, counts, total, exemplars.get((name, key), {}))
            for key, (total, *counts) in entry[SERIES].items()
        ]

    def lines(self, reading: Iterable[_Reading], *, openmetrics: bool) -> list[str]:
        lines: list[str] = []
        for labels, bounds, counts, sum_, exemplars in reading:
            prefixes = self._prefixes.get(labels)
            if prefixes is None:
                prefixes = self._prefixes[labels] = self._prefixes_of(labels, bounds)
            buckets, count, total = prefixes
            cumulative = list(accumulate(counts))
            made = [f"{prefix}{value}\n" for prefix, value in zip(buckets, cumulative, strict=True)]
            if openmetrics:
                for bucket, each in exemplars.items():
                    made[bucket] = f"{made[bucket][:-1]}{_exemplar(each)}\n"
            lines += made
            lines.append(f"{count}{cumulative[-1]}\n")
            lines.append(f"{total}{number(sum_)}\n")
        return lines

    def _prefixes_of(self, labels: Labels | str, bounds: Iterable[float]) -> tuple[list[str], str, str]:
        name, label_names = self.family.name, self.family.label_names
        if isinstance(labels, str):
            labels = labels_of(labels, label_names)
        buckets = [
            f"{name}_bucket{_braces((*label_names, 'le'), (*labels, bound))} "
            for bound in (*(number(float(bound)) for bound in bounds), "+Inf")
        ]
        braces = _braces(label_names, labels)
        return buckets, f"{name}_count{braces} ", f"{name}_sum{braces} "


def _exemplar(each: Exemplar) -> str:
    return f' # {{trace_id="{each.trace_id}"}} {number(each.value)} {number(round(each.at, 3))}'


def number(value: float) -> str:
    """A sample's value. Both formats spell infinities with a sign."""
    if math.isfinite(value):
        return repr(value)
    return "NaN" if math.isnan(value) else ("+Inf" if value > 0 else "-Inf")


def _head(name: str, kind: str, documentation: str) -> str:
    documentation = documentation.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {documentation}\n# TYPE {name} {kind}\n"


def _braces(names: Labels, values: Labels | str) -> str:
    if not names:
        return ""
    if isinstance(values, str):
        values = labels_of(values, names)
    pairs = (f'{name}="{_escape(value)}"' for name, value in zip(names, values, strict=True))
    return "{" + ",".join(pairs) + "}"


def _escape(value: str) -> str:
    escaped = value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
    # A lone surrogate (a name from an undecodable environment) would make the whole scrape fail to encode.
    return escaped.encode("utf-8", "replace").decode()

"""The same families for anything that speaks `prometheus_client` (a push gateway, an embedding program, a test).

The gateway's own `/metrics` does not come through here: see `exposition` for why.
"""

from collections.abc import Callable, Iterable
from itertools import accumulate

from prometheus_client import Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

from gateway.telemetry.metrics.cells import Family, HistogramFamily
from gateway.telemetry.metrics.exposition import number


class CellCollector(Collector):
    """Reads `families()` anew for each collection."""

    def __init__(self, families: Callable[[], Iterable[Family | HistogramFamily]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """The families as prometheus_client reads them, with their values of this moment."""
        for family in self._families():
            yield _simple(family) if isinstance(family, Family) else _histogram(family)


def _simple(family: Family) -> Metric:
    stem = family.name.removesuffix({"counter": "_total", "info": "_info"}.get(family.kind, ""))
    metric = Metric(stem, family.documentation, family.kind)
    for labels, value in family.read():
        metric.add_sample(family.name, dict(zip(family.label_names, labels, strict=True)), value)
    return metric


def _histogram(family: HistogramFamily) -> Metric:
    metric = Metric(family.name, family.documentation, "histogram")
    for values, histogram in family.read():
        labels = dict(zip(family.label_names, values, strict=True))
        bounds = (*(number(bound) for bound in histogram.bounds), "+Inf")
        exemplars = histogram.exemplars or {}
        for index, (bound, count) in enumerate(zip(bounds, accumulate(histogram.buckets), strict=True)):
            found = exemplars.get(index)
            exemplar = None if found is None else Exemplar({"trace_id": found.trace_id}, found.value, found.at)
            metric.add_sample(f"{family.name}_bucket", {**labels, "le": bound}, count, exemplar=exemplar)
        metric.add_sample(f"{family.name}_count", labels, histogram.count)
        metric.add_sample(f"{family.name}_sum", labels, histogram.total)
    return metric

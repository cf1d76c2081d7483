"""The picture of a run: CPU per request of each proxy for one hot client, and what each workload costs as a multiple of
nginx. Needs matplotlib (`pip install -e '.[bench]'`); without it a run has no picture and says so."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from benchmarks.observations import CPU, REDIS_CPU, VS_NGINX
from benchmarks.report import Section

_OURS = "#1f6feb"
_OTHERS = "#9aa4b2"
_REDIS = "#d29922"


def missing() -> str | None:
    return None if importlib.util.find_spec("matplotlib") else "pip install '.[bench]'"


def write_png(path: Path, sections: Sequence[Section]) -> bool:
    """False when there is nothing to draw."""
    by_name = {section.name: section.observations for section in sections}
    hot = by_name.get("hot")
    costs = (
        [(proxy, hot.median(case, proxy, CPU) or 0.0, hot.median(case, proxy, REDIS_CPU) or 0.0) for case, proxy in hot]
        if hot
        else []
    )
    ratios = [
        (f"{section.name}: {case}", ratio)
        for section in sections
        for case, proxy in section.observations
        if proxy == "gateway"
        and section.name != "large"
        and (ratio := section.observations.median(case, proxy, VS_NGINX)) is not None
    ]
    if not costs and not ratios:
        return False
    import matplotlib as mpl  # noqa: PLC0415 - optional

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - optional, and only after the backend is chosen

    figure, (left, right) = plt.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
    names = [name for name, _, _ in costs][::-1]
    own = [cpu for _, cpu, _ in costs][::-1]
    in_redis = [redis for _, _, redis in costs][::-1]
    left.barh(names, own, color=[_OURS if name == "gateway" else _OTHERS for name in names])
    behind = left.barh(names, in_redis, left=own, color=_REDIS, label="Redis")
    said = [
        f"{cpu:.1f}" if redis < 1.0 else f"{cpu:.1f} + {redis:.1f}" for cpu, redis in zip(own, in_redis, strict=True)
    ]
    left.bar_label(behind, labels=said, padding=3)
    left.set_xlabel("CPU µs per request, one hot client")
    left.legend(loc="lower right", frameon=False)
    ours = right.barh([name for name, _ in ratios][::-1], [ratio for _, ratio in ratios][::-1], color=_OURS)
    right.bar_label(ours, fmt="%.1f", padding=3)
    right.axvline(1.0, color=_OTHERS, linewidth=1)
    right.set_xlabel("gateway: CPU per request as a multiple of nginx, same round")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)
    return True

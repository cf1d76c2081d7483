"""What Python hooks do, as metrics. Without a route with hooks there is nothing of it."""

from collections.abc import Iterable, Iterator
from time import monotonic

from gateway.proxy.gates.hooks import HooksGate
from gateway.proxy.hooks.running import Point, RunningHook
from gateway.proxy.routes.topology import Route
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Histogram, Labels


def count_hooks(routes: Iterable[Route], metrics: Metrics) -> None:
    """Add the metrics of the hooks of these routes."""
    gates = [(route.name, route.hooks) for route in routes if route.hooks is not None]
    if not gates:
        return
    points = [(labels, point) for route, gate in gates for labels, point in _points(route, gate)]

    def calls() -> Iterator[tuple[Labels, float]]:
        for labels, point in points:
            for outcome, count in point.counts.items():
                yield (*labels, outcome), count

    def durations() -> Iterator[tuple[Labels, Histogram]]:
        return ((labels, point.duration) for labels, point in points)

    def off() -> Iterator[tuple[Labels, float]]:
        now = monotonic()
        for route, gate in gates:
            for hook in gate.running:
                yield (route, hook.name), float(now < hook.switch.off_until)

    labels = ("route", "hook", "on")
    metrics.counter("hook_calls_total", "Calls of Python hooks, by what came of them.", (*labels, "outcome"), calls)
    metrics.counter(
        "hook_slow_calls_total",
        "Calls of Python hooks that took at least HOOKS_SLOW_SECONDS, while their worker did nothing else.",
        labels,
        lambda: ((labels, point.slow) for labels, point in points),
    )
    metrics.histogram("hook_duration_seconds", "One call of a Python hook, in seconds.", labels, durations)
    metrics.gauge(
        "hook_switched_off",
        "Whether a Python hook is not called for now, because it has failed or was slow.",
        ("route", "hook"),
        off,
        "max",
    )


def _points(route: str, gate: HooksGate) -> Iterator[tuple[Labels, Point]]:
    for hook in gate.running:
        yield from ((((route, hook.name, on), point)) for on, point in _of(hook))


def _of(hook: RunningHook) -> Iterator[tuple[str, Point]]:
    if hook.request is not None:
        yield "request", hook.request
    if hook.response is not None:
        yield "response", hook.response

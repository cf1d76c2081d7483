"""What is measured. Each workload starts what it needs, measures it in interleaved rounds, and stops it."""

from benchmarks.workloads import (
    bodies,
    clients,
    connections,
    consoles,
    hot,
    identity,
    keys,
    latency,
    outbox,
    overload,
    refusals,
    scale,
    traces,
    workers,
)
from benchmarks.workloads.base import Workload

# The order is also the order of importance: what is last is what a short time drops first.
WORKLOADS: tuple[Workload, ...] = (
    hot.HOT,
    clients.CLIENTS,
    latency.LATENCY,
    refusals.REFUSALS,
    scale.ROUTES,
    scale.SEEN,
    connections.BUSY,
    connections.IDLE,
    bodies.BODIES,
    bodies.LARGE,
    identity.IDENTITY,
    workers.WORKERS,
    keys.KEYS,
    outbox.OUTBOX,
    traces.TRACES,
    overload.OVERLOAD,
    consoles.CONSOLES,
)

__all__ = ["WORKLOADS", "Workload"]

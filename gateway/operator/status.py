"""`gateway status`: how the gateway, its workers and each upstream are."""

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from gateway.operator import fault
from gateway.operator.client import Client
from gateway.operator.output import age, page, percent, table, write_json, write_lines


def run(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway status`: the gateway, its workers and each upstream. Returns 0 where all of it is healthy, else 1."""
    health = client.get("/api/resilience/health")
    process = client.get("/health")
    endpoints = client.get("/api/resilience/endpoints")
    workers = client.get("/api/resilience/workers")
    faults = client.get("/api/resilience/faults")
    well = health["status"] == "Healthy" and process["status"] == "healthy"
    if arguments.json:
        found = {"health": health, "process": process, "endpoints": endpoints, "workers": workers, "faults": faults}
        write_json(found)
        return 0 if well else 1
    redis = process["checks"]["redis"]
    shared = f"Redis {'up' if redis['up'] else 'away'}, {redis['replicas']} replicas" if "up" in redis else "no Redis"
    capacity = process["checks"]["capacity"]
    in_flight = f"{capacity['in_flight']} of {capacity['max_in_flight']} in flight"
    lines = [f"{health['status']}: {process['service']} {process['version']}, {in_flight}, {shared}"]
    lines += [f"  {reason}" for reason in dict.fromkeys([*health["reasons"], *process["reasons"]])]
    rows = [
        {
            "upstream": each["service"],
            "status": each["status"],
            "circuit": each["circuitState"] or "-",
            "errors/min": f"{each['errorsPerMinute']:g}",
            "error rate": percent(each["errorRate"]),
            "endpoints": _endpoints(endpoints["endpoints"], each["service"]),
        }
        for each in health["services"]
    ]
    out = [
        {"out of service": f"{each['upstream']} {each['endpoint']}", "how": each["state"], "until": each["until"],
         "in flight": each["inFlight"], "reason": each["reason"]}
        for each in endpoints["endpoints"]
        if each["state"] != "enabled"
    ]  # fmt: skip
    now = datetime.now(UTC)
    processes = [_worker(each, now) for each in workers["workers"]]
    write_lines([*lines, *page(*map(table, (processes, rows, out, fault.rows(faults))))])
    return 0 if well else 1


def _endpoints(endpoints: list[dict[str, object]], upstream: str) -> str:
    own = [each for each in endpoints if each["upstream"] == upstream]
    return f"{sum(bool(each['available']) for each in own)} of {len(own)}" if own else "-"


def _worker(each: Mapping[str, Any], now: datetime) -> dict[str, object]:
    memory = each["residentBytes"]
    return {
        "worker": each["worker"],
        "pid": each["pid"],
        "age": age((now - datetime.fromisoformat(each["startTime"])).total_seconds()),
        "state": each["state"],
        "connections": each["connections"],
        "in flight": each["inFlight"],
        "requests/s": f"{each['requestsPerSecond']:g}",
        "loop lag": f"{1000 * each['eventLoopLag']:.1f} ms",
        "memory": "-" if memory is None else f"{memory / 2**20:.0f} MiB",
    }

"""`gateway status`: how the gateway and each upstream are."""

import argparse

from gateway.operator.client import Client
from gateway.operator.output import percent, table, write_json, write_lines


def run(client: Client, arguments: argparse.Namespace) -> int:
    """`gateway status`: the state of the gateway and of each upstream. Returns 0 where all of it is healthy, else 1."""
    health = client.get("/api/resilience/health")
    process = client.get("/health")
    endpoints = client.get("/api/resilience/endpoints")
    well = health["status"] == "Healthy" and process["status"] == "healthy"
    if arguments.json:
        write_json({"health": health, "process": process, "endpoints": endpoints})
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
    write_lines([*lines, "", *table(rows), *([""] if out else []), *table(out)])
    return 0 if well else 1


def _endpoints(endpoints: list[dict[str, object]], upstream: str) -> str:
    own = [each for each in endpoints if each["upstream"] == upstream]
    return f"{sum(bool(each['available']) for each in own)} of {len(own)}" if own else "-"

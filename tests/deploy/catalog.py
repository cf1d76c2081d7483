"""What Prometheus can know about: what a running gateway exposes, and what is taken on trust from others.

The second is a list, so that a metric that is not the gateway's is a decision and not a typing error.
"""

from collections import defaultdict
from collections.abc import Iterable

from prometheus_client.parser import text_string_to_metric_families

from tests.deploy.promql import Catalog, Exposed, labels

GATEWAY = "proxy-service"
TARGET = frozenset({"job", "instance"})

# https://github.com/oliver006/redis_exporter.
REDIS_EXPORTER: dict[str, tuple[str, ...]] = {
    "redis_commands_processed_total": (),
    "redis_commands_total": ("cmd",),
    "redis_connected_clients": (),
    "redis_db_keys": ("db",),
    "redis_db_keys_expiring": ("db",),
    "redis_evicted_keys_total": (),
    "redis_expired_keys_total": (),
    "redis_memory_max_bytes": (),
    "redis_memory_used_bytes": (),
    "redis_rdb_last_save_timestamp_seconds": (),
    "redis_up": (),
}
# Every process that Prometheus scrapes exposes these.
PROCESS = ("process_cpu_seconds_total", "process_max_fds", "process_open_fds", "process_resident_memory_bytes")
OTHERS = ("redis", "prometheus", "alertmanager")
# Prometheus makes these itself.
BUILT_IN = {
    "up": Exposed(None, TARGET, {"job": frozenset({GATEWAY, *OTHERS})}),
    "ALERTS": Exposed(None, frozenset({"alertname", "alertstate", "severity"})),
}


def exposed(exposition: str) -> dict[str, list[Exposed]]:
    """Everything: the gateway's metrics from its exposition, with the labels of a target, and what others have."""
    found: dict[str, list[Exposed]] = defaultdict(list)
    for name, series in _samples(exposition).items():
        values: dict[str, set[str]] = defaultdict(set)
        for each in series:
            for label, value in each.items():
                values[label].add(value)
        known = {label: frozenset(those) for label, those in values.items()}
        found[name].append(Exposed(GATEWAY, TARGET | set(known), {**known, "job": frozenset({GATEWAY})}))
    for name, own in REDIS_EXPORTER.items():
        found[name].append(Exposed("redis", TARGET | set(own), {"job": frozenset({"redis"})}))
    for name in PROCESS:
        found[name] += [Exposed(job, TARGET) for job in OTHERS]
    for name, built_in in BUILT_IN.items():
        found[name].append(built_in)
    return found


def with_rules(catalog: Catalog, rules: Iterable[tuple[str, str]]) -> Catalog:
    """The catalog and what these (name, expression) record, each of which may use the ones before it."""
    known: dict[str, list[Exposed]] = {name: list(those) for name, those in catalog.items()}
    for name, expression in rules:
        known[name] = [Exposed(None, labels(expression, known))]
    return known


def _samples(exposition: str) -> dict[str, list[dict[str, str]]]:
    found: dict[str, list[dict[str, str]]] = defaultdict(list)
    for family in text_string_to_metric_families(exposition):
        for sample in family.samples:
            found[sample.name].append(sample.labels)
    return found

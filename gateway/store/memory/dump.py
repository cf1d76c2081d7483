"""The tables of the store as plain data, so that they outlive the process that keeps them: JSON with `FORMAT` in front.

Instants are written as they are, of the monotonic clock for buckets and of the wall clock for the rest, so a dump is of
use on the same machine until it is started anew. Full buckets and what has ended are left out. A dump is restored as a
whole or not at all: `Unusable` says what could not be understood.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, Final, TypeVar

from gateway.policy.breaker import CircuitState
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.memory.buckets import Lease, MemoryBuckets, SharedBucket
from gateway.store.memory.circuit import FleetCircuit
from gateway.store.memory.circuit_evidence import FleetEvidence, ReplicaEvidence
from gateway.store.memory.circuits import CircuitTable
from gateway.store.memory.endpoints import OutTable
from gateway.store.memory.figures import FigureTable, ServiceFigures
from gateway.store.memory.store import SharedMemory
from gateway.store.memory.usage import UsageTable
from gateway.store.port import EndpointOut

FORMAT: Final = 1

_MOST: Final = 2.0**63
"""No number of a table is greater. Beyond, arithmetic with floats fails."""

T = TypeVar("T")
_EVIDENCE: Final = tuple(each.name for each in fields(ReplicaEvidence))
_SIMPLE: Final = (
    *("generation", "failures", "successes", "max_probes", "opened_at", "retry_at", "forced_for"),
    *("cause", "suspected_at", "probes", "words"),
)
"""What is written of a circuit as it is."""


class Unusable(ValueError):
    """What was dumped cannot be restored. The message is the reason."""


def dump(shared: SharedMemory, figures: FigureTable) -> dict[str, Any]:
    """Everything, in what JSON knows."""
    return {
        "format": FORMAT,
        "buckets": _dump_buckets(shared.buckets),
        "circuits": _dump_circuits(shared.circuits),
        "endpoints": [[*out, until] for out, until in shared.endpoints.out.values()],
        "figures": _dump_figures(figures),
        "usage": shared.usage.days,
    }


def restore(data: Any) -> tuple[SharedMemory, FigureTable]:
    """The same tables again. Raises `Unusable`."""
    try:
        if data["format"] != FORMAT:
            raise Unusable(f"it is of format {data['format']!r}, not {FORMAT}")
        shared, figures = SharedMemory(), FigureTable()
        _part("buckets", _restore_buckets, shared.buckets, data)
        _part("circuits", _restore_circuits, shared.circuits, data)
        _part("endpoints", _restore_endpoints, shared.endpoints, data)
        _part("figures", _restore_figures, figures, data)
        # A store that was dumped before there were tenants has none.
        _part("usage", _restore_usage, shared.usage, {"usage": {}, **data})
    except (KeyError, TypeError) as error:
        raise Unusable(f"it is not a dump of the store ({type(error).__name__})") from error
    return shared, figures


def _part(name: str, restore_into: Callable[[T, Any], None], table: T, data: Mapping[str, Any]) -> None:
    try:
        restore_into(table, data[name])
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise Unusable(f"its {name} cannot be understood ({type(error).__name__}: {error})") from error


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST:
        raise ValueError("not a number, or none that can be meant")
    return value


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not abs(value) <= _MOST:
        raise TypeError("not a whole number, or none that can be meant")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"not a text: {value!r}")
    return value


def _dump_buckets(buckets: MemoryBuckets) -> dict[str, Any]:
    now = buckets.clock()
    policies: dict[RateLimitPolicy, int] = {}
    rows = []
    for (_, client), bucket in buckets.buckets.items():
        if not bucket.is_full(now):
            number = policies.setdefault(bucket.policy, len(policies))
            rows.append([number, client, bucket.tokens, bucket.at, bucket.leases, bucket.told])
    written = [[each.name, each.capacity, each.refill_rate, each.max_ttl] for each in policies]
    return {"lease_ids": buckets.lease_ids, "policies": written, "rows": rows}


def _restore_buckets(buckets: MemoryBuckets, data: Any) -> None:
    buckets.lease_ids = _whole(data["lease_ids"])
    policies = [
        RateLimitPolicy(_text(name), _whole(capacity), _number(rate), _number(max_ttl))
        for name, capacity, rate, max_ttl in data["policies"]
    ]
    for number, client, tokens, at, leases, told in data["rows"]:
        policy = policies[number]
        buckets.buckets[policy.name, _text(client)] = SharedBucket(
            policy,
            _number(tokens),
            _number(at),
            tuple([Lease(_text(r), _whole(amount), _whole(i), _number(then)) for r, amount, i, then in leases]),
            None if told is None else {_text(replica): _whole(debt) for replica, debt in told.items()},
        )


def _dump_circuits(table: CircuitTable) -> dict[str, Any]:
    return {
        "version": table.version,
        "epoch": table.epoch,
        "seen": table.seen,
        "kept_until": table.kept_until,
        "circuits": {upstream: _circuit_row(circuit) for upstream, circuit in table.circuits.items()},
    }


def _circuit_row(circuit: FleetCircuit) -> dict[str, Any]:
    evidence = circuit.evidence
    return {
        **{name: getattr(circuit, name) for name in _SIMPLE},
        "state": circuit.state.value,
        "probe_time": None if math.isinf(circuit.probe_time) else circuit.probe_time,
        "replicas": {name: [getattr(each, part) for part in _EVIDENCE] for name, each in evidence.replicas.items()},
        "success_at": evidence.success_at,
        "reached_at": evidence.reached_at,
    }


def _restore_circuits(table: CircuitTable, data: Any) -> None:
    table.version, table.epoch = _whole(data["version"]), _whole(data["epoch"])
    table.seen = _instants(data["seen"])
    table.kept_until = _instants(data["kept_until"])
    table.circuits = {_text(upstream): _circuit(row) for upstream, row in data["circuits"].items()}


def _circuit(row: Any) -> FleetCircuit:
    suspected_at, probe_time = row["suspected_at"], row["probe_time"]
    return FleetCircuit(
        state=CircuitState(row["state"]),
        cause=_text(row["cause"]),
        probe_time=math.inf if probe_time is None else _number(probe_time),
        suspected_at=None if suspected_at is None else _number(suspected_at),
        probes={_text(token): (_number(lapses), _text(holder)) for token, (lapses, holder) in row["probes"].items()},
        words=_instants(row["words"]),
        evidence=FleetEvidence(
            {_text(name): _evidence(*each) for name, each in row["replicas"].items()},
            _number(row["success_at"]),
            _number(row["reached_at"]),
        ),
        generation=_whole(row["generation"]),
        failures=_whole(row["failures"]),
        successes=_whole(row["successes"]),
        max_probes=_whole(row["max_probes"]),
        opened_at=_number(row["opened_at"]),
        retry_at=_number(row["retry_at"]),
        forced_for=_number(row["forced_for"]),
    )


def _evidence(*parts: Any) -> ReplicaEvidence:
    seen, calls, failures, slow_calls, unreached, success_at, unreached_at, failures_at = parts
    return ReplicaEvidence(
        _number(seen),
        _whole(calls),
        _whole(failures),
        _whole(slow_calls),
        _whole(unreached),
        _number(success_at),
        _number(unreached_at),
        tuple(map(_number, failures_at)),
    )


def _instants(data: Any) -> dict[str, float]:
    return {_text(name): _number(at) for name, at in data.items()}


def _restore_endpoints(table: OutTable, data: Any) -> None:
    for upstream, endpoint, mode, left, reason, until in data:
        if mode not in ("drained", "disabled"):
            raise ValueError(f"not a mode: {mode!r}")
        out = EndpointOut(_text(upstream), _text(endpoint), mode, _number(left), _text(reason))
        table.out[out.upstream, out.endpoint] = out, _number(until)


def _restore_usage(table: UsageTable, data: Any) -> None:
    table.days = {
        _text(day): {
            "counts": {_text(tenant): _whole(count) for tenant, count in kept["counts"].items()},
            "told": {_text(replica): _whole(sequence) for replica, sequence in kept["told"].items()},
        }
        for day, kept in data.items()
    }


def _dump_figures(table: FigureTable) -> dict[str, Any]:
    services = {
        name: [
            None if math.isinf(each.reset_at) else each.reset_at,
            list(each.cells.items()),
            each.seen,
            each.last_error_at,
        ]
        for name, each in table.services.items()
    }
    records = [record.decode("utf-8", "replace") for record in table.records]
    return {"services": services, "resets": table.resets, "records": records}


def _restore_figures(table: FigureTable, data: Any) -> None:
    for name, (reset_at, cells, seen, last_error_at) in data["services"].items():
        table.services[_text(name)] = ServiceFigures(
            -math.inf if reset_at is None else _number(reset_at),
            {_whole(index): list(map(_whole, counts)) for index, counts in cells},
            {_text(replica): (_whole(sequence), _whole(cell)) for replica, (sequence, cell) in seen.items()},
            None if last_error_at is None else _number(last_error_at),
        )
    table.resets = {_text(name): (_whole(number), _number(at)) for name, (number, at) in data["resets"].items()}
    table.records = [_text(record).encode() for record in data["records"]]

"""How the store port goes over a channel: lists of JSON, by position. Both ends are of one host, and of one version
except while an upgrade replaces the workers; an operation that changes its positions takes a new name.

    operation        body                                              answer
    ---------------  ------------------------------------------------  -------------------------------------------------
    take             [[policy, [ask, …]], …]: runs of asks that share  [grant, …], in the order of the asks
                     a policy, in order
    sync             [[report, …], [[upstream, token], …]]: with the   [replicas, version, epoch, [snapshot, …]]
                     leases of probes that nobody will use
    lease_probe      [upstream, settings, lease time, token]           [generation] for a lease, else a snapshot
    settle_probe     [upstream, generation, token, settings, outcome,  snapshot
                     reached]
    force            [upstream, state or null, duration, cause]        snapshot
    reset            upstream                                          null
    take_out         out                                               null
    bring_back       [upstream, endpoint]                              whether it was out
    endpoints_out    null                                              [out, …]
    add_usage        [day, sequence, {tenant: count}]                  {tenant: sum}
    leave            null                                              null
    add_figures      [[service, sequence, cells, last error age], …]   {service: number of its reset}
    sum_figures      [services, window, width]                         [[counts, last error age], …]
    reset_figures    service                                           null
    add_records      [[record, …], keep]                               null
    records          count                                             [record, …]

    policy           name, capacity, refill_rate, max_ttl
    ask              the fields of `Ask` without the policy
    settings         the fields of `BreakerSettings`
    report           upstream, settings, then the other fields of `CircuitReport`
    grant, snapshot, out    the fields of `Grant`, `CircuitSnapshot`, `EndpointOut`

Fields are in the order of their class. An enum is its value, a record is text. JSON knows neither infinities nor NaN:
none of these numbers may be one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import fields
from functools import lru_cache
from itertools import groupby
from operator import attrgetter
from typing import Any

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.lease.ask import Ask, Grant
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.port import CircuitReport, CircuitSnapshot

Row = Sequence[Any]

_policy_row: Callable[[RateLimitPolicy], Row] = attrgetter(*(each.name for each in fields(RateLimitPolicy)))
settings_row: Callable[[BreakerSettings], Row] = attrgetter(*(each.name for each in fields(BreakerSettings)))
_report_tail: Callable[[CircuitReport], Row] = attrgetter(*(each.name for each in fields(CircuitReport)[2:]))
_snapshot_fields: Callable[[CircuitSnapshot], Row] = attrgetter(*(each.name for each in fields(CircuitSnapshot)))
_ask_row: Callable[[Ask], Row] = attrgetter("client", "want", "lease", "unspent", "lease_id", "debt", "debt_id")
_grant_row: Callable[[Grant], Row] = attrgetter(
    *("granted", "leased", "lease_id", "lease_time", "remaining", "retry_after", "reset_after"),
    *("held_elsewhere", "held_time"),
)
_policy_of: Callable[[Ask], RateLimitPolicy] = attrgetter("policy")

_policy = lru_cache(maxsize=1024)(RateLimitPolicy)
_settings = lru_cache(maxsize=1024)(BreakerSettings)


def asks_body(asks: Sequence[Ask]) -> list[Row]:
    """The body of `take`."""
    return [(_policy_row(policy), [_ask_row(ask) for ask in run]) for policy, run in groupby(asks, _policy_of)]


def asks_of(body: Iterable[Row]) -> list[Ask]:
    """What `asks_body` has written."""
    found = []
    for row, run in body:
        policy = _policy(*row)
        found += [Ask(policy, *ask) for ask in run]
    return found


def grant_rows(grants: Iterable[Grant]) -> list[Row]:
    """The answer of `take`."""
    return [_grant_row(grant) for grant in grants]


def grants_of(rows: Iterable[Row]) -> list[Grant]:
    """What `grant_rows` has written."""
    return [Grant(*row) for row in rows]


def settings_of(row: Row) -> BreakerSettings:
    """What `settings_row` has written."""
    return _settings(*row)


def report_row(report: CircuitReport) -> Row:
    """One report."""
    return report.upstream, settings_row(report.settings), *_report_tail(report)


def report_of(row: Row) -> CircuitReport:
    """What `report_row` has written."""
    upstream, settings, generation, calls, failures, slow_calls, ages, *rest = row
    return CircuitReport(upstream, settings_of(settings), generation, calls, failures, slow_calls, tuple(ages), *rest)


def snapshot_row(snapshot: CircuitSnapshot) -> Row:
    """One snapshot; JSON writes the state as its value."""
    return _snapshot_fields(snapshot)


def snapshot_of(row: Row) -> CircuitSnapshot:
    """What `snapshot_row` has written."""
    upstream, known, state, *rest = row
    return CircuitSnapshot(upstream, known, CircuitState(state), *rest)

"""The rules of alerts: what they look at, and of which conditions they say that they hold.

    high_error_rate         errors a minute > high_errors_per_minute, or with minimum_requests rate > high_error_rate
    critical_error_rate     with minimum_requests rate >= critical_error_rate
    circuit_open            open, half-open or forced open; until it is closed
    redis_lost              Redis is configured and does not answer
    retry_budget_exhausted  a retry was not made for want of budget since the last check
    shedding                a request was turned away by the global caps since the last check
    fault_active            an operator has an upstream meet a fault (gateway.fleet.faults)

The first three are about the service, and their facts are those of the fleet while the store answers. Replicas need not
agree at every moment: each of them looks at other instants, so one may see what comes and goes between two checks of
another. The other kinds are about this gateway.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from gateway.telemetry.log.render import counted
from gateway.telemetry.services.rates import Rate

HOLD = 0.8

Severity = Literal["warning", "critical"]
Kind = Literal[
    "high_error_rate", "critical_error_rate", "circuit_open", "redis_lost", "retry_budget_exhausted", "shedding",
    "fault_active",
]  # fmt: skip

TITLES: Mapping[Kind, str] = {
    "high_error_rate": "High error rate detected",
    "critical_error_rate": "Critical error rate detected",
    "circuit_open": "Circuit open",
    "redis_lost": "Redis lost",
    "retry_budget_exhausted": "Retry budget exhausted",
    "shedding": "Load is being shed",
    "fault_active": "A fault is active",
}

_ADVICE = {
    "Timeout": "It is slow, or UPSTREAM_TIMEOUT is too short for what it does.",
    "Network": "Check that it runs, its name and port, and the network between.",
    "Dependency": "It answers with errors: look at its own log.",
    "RateLimit": "It asks for fewer requests.",
    "Authentication": "Check the credentials that are sent to it.",
    "InvalidState": "Check whether it, or this gateway, is being stopped.",
    "Configuration": "Check its address and base path.",
}


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """Rates from 0 to 1. `window` is that of the error figures, in seconds. A rate says nothing before there are
    `minimum_requests`. `retention` in seconds, from the end of an alert to its removal."""

    interval: float = 15.0
    window: float = 60.0
    high_errors_per_minute: float = 10.0
    high_error_rate: float = 0.05
    critical_error_rate: float = 0.5
    minimum_requests: int = 20
    resolve_after: float = 30.0
    retention: float = 24 * 3600.0


class CircuitFact(NamedTuple):
    """`state` is closed, open, half_open, forced_open or forced_closed; `retry_after` seconds to the next probe, or to
    the end of a state forced open."""

    upstream: str
    state: str
    cause: str
    retry_after: float


class FaultFact(NamedTuple):
    """A fault on demand. `does` says what it does, `left` in seconds."""

    upstream: str
    does: str
    reason: str
    left: float


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """What the rules look at. `rates` are over `AlertSettings.window`. `redis_up` None: none is configured. `exhausted`
    (by upstream) and `shed` are counts since the start of the process, which never go down."""

    rates: Sequence[Rate] = ()
    circuits: Sequence[CircuitFact] = ()
    redis_up: bool | None = None
    redis_error: str | None = None
    exhausted: Mapping[str, int] = field(default_factory=dict)
    shed: int = 0
    faults: Sequence[FaultFact] = ()


class Finding(NamedTuple):
    """A condition at one check. With `fires` False it is not beyond the threshold, but too near to it for the alert to
    end."""

    kind: Kind
    service: str
    severity: Severity
    message: str
    fires: bool = True


def findings(facts: AlertFacts, before: AlertFacts | None, settings: AlertSettings, service: str) -> Iterator[Finding]:
    """What the rules say. `before` is the last check's facts; without it nothing is said about counts."""
    for rate in facts.rates:
        yield from _error_rates(rate, settings)
    yield from _circuits(facts.circuits)
    for fault in facts.faults:
        yield Finding(
            "fault_active",
            fault.upstream,
            "warning",
            f"An operator has attempts at {fault.upstream} meet a fault for another {fault.left:.0f} s:"
            f" {fault.does} ({fault.reason}). `gateway fault remove --all` ends it.",
        )
    if facts.redis_up is False:
        why = f" ({facts.redis_error})" if facts.redis_error else ""
        yield Finding(
            "redis_lost",
            service,
            "warning",
            f"Redis does not answer{why}: limits, circuits and figures are this replica's own until it is back."
            " Check that it runs and that the network between lets it through.",
        )
    if before is None:
        return
    for upstream, count in facts.exhausted.items():
        more = count - before.exhausted.get(upstream, 0)
        if more > 0:
            yield Finding(
                "retry_budget_exhausted",
                upstream,
                "warning",
                f"Since the last check {counted(more, 'retry of a request', 'retries of requests')} to {upstream} could"
                " not be made: more of them fail than its retry budget covers. Look at its errors first;"
                " RETRY_BUDGET_RATIO is the limit.",
            )
    if facts.shed > before.shed:
        yield Finding(
            "shedding",
            service,
            "warning",
            "The global caps turned away"
            f" {counted(facts.shed - before.shed, 'request or connection', 'requests or connections')} since the last"
            " check. Scale out, find the client that sends so much, or raise MAX_INFLIGHT or MAX_CONNECTIONS.",
        )


def is_critical(rate: Rate, settings: AlertSettings) -> bool:
    """Whether so many requests of a service fail that the critical alert is raised."""
    return rate.requests >= settings.minimum_requests and rate.error_rate >= settings.critical_error_rate


def _error_rates(rate: Rate, settings: AlertSettings) -> Iterator[Finding]:
    per_minute, share = rate.errors_per_minute, rate.error_rate
    enough = rate.requests >= settings.minimum_requests
    message = _error_message(rate)

    def beyond(factor: float) -> bool:
        return per_minute > factor * settings.high_errors_per_minute or (
            enough and share > factor * settings.high_error_rate
        )

    if beyond(HOLD):
        yield Finding("high_error_rate", rate.service, "warning", message, beyond(1.0))
    # Too few requests to raise an alert do not end one: it stays while most of those few still fail.
    if rate.requests and share >= HOLD * settings.critical_error_rate:
        yield Finding("critical_error_rate", rate.service, "critical", message, is_critical(rate, settings))


def _error_message(rate: Rate) -> str:
    text = (
        f"{rate.service} had {counted(rate.errors, 'error')} ({rate.errors_per_minute:.1f} a minute) in the last"
        f" {rate.window:.0f} s, and {rate.failed_requests} of {rate.requests} requests failed"
        f" ({100 * rate.error_rate:.1f} %)."
    )
    if rate.main_error is not None:
        worst, count = rate.main_error
        text += f" Most of them {worst} ({count}). {_ADVICE.get(worst, '')}".rstrip()
    return text


def _circuits(circuits: Sequence[CircuitFact]) -> Iterator[Finding]:
    for circuit in circuits:
        why = f" ({circuit.cause})" if circuit.cause else ""
        if circuit.state == "forced_open":
            yield Finding(
                "circuit_open",
                circuit.upstream,
                "warning",
                f"An operator holds the circuit of {circuit.upstream} open{why} for another"
                f" {circuit.retry_after:.0f} s.",
            )
        elif circuit.state == "open":
            when = f"in {math.ceil(circuit.retry_after)} s" if circuit.retry_after > 0.0 else "now"
            yield Finding(
                "circuit_open",
                circuit.upstream,
                "critical",
                f"The circuit of {circuit.upstream} is open{why}: its requests are refused until probes succeed,"
                f" the next {when}. Check that upstream.",
            )
        elif circuit.state == "half_open":
            yield Finding(
                "circuit_open",
                circuit.upstream,
                "critical",
                f"The circuit of {circuit.upstream} is half-open{why}: all its requests but probes are refused until"
                " these succeed. Check that upstream.",
            )

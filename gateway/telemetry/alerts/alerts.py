"""Alerts: what a person should know without having asked.

At every check the rules look at facts and say of each condition (`kind/service`) whether it holds. An alert is raised
at the first check that finds its condition beyond the threshold; stays active while the condition is beyond `HOLD`
(80 %) of it; and is resolved when that has not been so for `resolve_after` seconds without a break. So a value that
swings about a threshold makes one alert and not many.

    high_error_rate         errors a minute > high_errors_per_minute, or with minimum_requests rate > high_error_rate
    critical_error_rate     with minimum_requests rate >= critical_error_rate
    circuit_open            open, half-open or forced open; until it is closed
    redis_lost              Redis is configured and does not answer
    retry_budget_exhausted  a retry was not made for want of budget since the last check
    shedding                a request was turned away by the global caps since the last check
    fault_active            an operator has an upstream meet a fault (gateway.fleet.faults)

The first three are about the service, and their facts are those of the fleet while the store answers. Replicas need not
agree at every moment: each of them looks at other instants, so one may see what comes and goes between two checks of
another. The other kinds are about this gateway. Each replica keeps and delivers its own alerts; `key` tells the
receiver which of them are about the same condition. Of the workers of one gateway, one judges (`check`); the
others adopt what it has found.

Left out on purpose: delivery (`webhook`), silencing, and alerts that outlive the process.
"""

import logging
import math
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from gateway.telemetry.log.render import counted
from gateway.telemetry.services.rates import Rate

log = logging.getLogger("gateway.alerts")

HOLD = 0.8
MOST_RESOLVED = 500

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


@dataclass(slots=True)
class Alert:
    """One thing that is or was wrong. Instants in seconds since the epoch.

    `key` (`kind/service`) names the condition and is equal in all replicas; `id` names this occurrence in this process.
    `count` is the number of checks that found it so, `last_at` the latest of them.
    """

    id: str
    key: str
    kind: Kind
    service: str
    severity: Severity
    message: str
    first_at: float
    last_at: float
    count: int = 1
    state: Literal["active", "resolved"] = "active"
    resolved_at: float | None = None


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


Listener = Callable[[Literal["raised", "resolved"], Alert], None]


class Alerts:
    """The alerts of this process. `service` is the gateway's own name. `on_change` is called once for each alert that
    is raised or resolved, and must not wait."""

    def __init__(
        self,
        settings: AlertSettings,
        service: str,
        *,
        on_change: Listener | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self._service = service
        self._on_change = on_change
        self._clock = clock
        self._active: dict[str, Alert] = {}
        self._clear_since: dict[str, float] = {}
        self._resolved: deque[Alert] = deque(maxlen=MOST_RESOLVED)
        self._before: AlertFacts | None = None

    def __repr__(self) -> str:
        return f"<Alerts {len(self._active)} active, {len(self._resolved)} resolved>"

    def active(self) -> list[Alert]:
        """Worst first, then newest first."""
        return sorted(self._active.values(), key=lambda alert: (alert.severity != "critical", -alert.first_at))

    def all(self) -> list[Alert]:
        """The active ones as in `active`, then the resolved ones, latest end first."""
        self._retire(self._clock())
        return [*self.active(), *reversed(self._resolved)]

    def count_by_kind(self) -> list[tuple[tuple[str], int]]:
        """How many are active of each kind, for a gauge."""
        return [((kind,), sum(alert.kind == kind for alert in self._active.values())) for kind in TITLES]

    def cleanup(self) -> int:
        """Remove the resolved ones; how many there were."""
        self._retire(self._clock())
        count = len(self._resolved)
        self._resolved.clear()
        return count

    def data(self) -> dict[str, list[dict[str, Any]]]:
        """The alerts as plain data, for `adopt` in another worker."""
        return {
            "active": [asdict(alert) for alert in self._active.values()],
            "resolved": [asdict(alert) for alert in self._resolved],
        }

    def adopt(self, data: Mapping[str, list[dict[str, Any]]]) -> None:
        """Have the alerts that another worker has found. Nobody is told of them again."""
        self._active = {each["key"]: Alert(**each) for each in data["active"]}
        self._resolved = deque((Alert(**each) for each in data["resolved"]), MOST_RESOLVED)
        self._clear_since.clear()

    def check(self, facts: AlertFacts) -> None:
        """Judge, raise and resolve. Instants come from the clock: it may be set, and then only durations are wrong."""
        now = self._clock()
        before, self._before = self._before, facts
        found = {f"{each.kind}/{each.service}": each for each in findings(facts, before, self.settings, self._service)}
        for key, finding in found.items():
            self._found(key, finding, now)
        for key in [key for key in self._active if key not in found]:
            since = self._clear_since.setdefault(key, now)
            if now - since >= self.settings.resolve_after or now < since:
                self._resolve(key, now)
        self._retire(now)

    def _found(self, key: str, finding: Finding, now: float) -> None:
        self._clear_since.pop(key, None)
        alert = self._active.get(key)
        if alert is not None:
            alert.last_at = now
            alert.message, alert.severity = finding.message, finding.severity
            alert.count += finding.fires
        elif finding.fires:
            alert = self._active[key] = Alert(
                uuid.uuid4().hex[:16],
                key,
                finding.kind,
                finding.service,
                finding.severity,
                finding.message,
                first_at=now,
                last_at=now,
            )
            log.warning("%s: %s", TITLES[alert.kind], alert.message, extra=_extra("alert_raised", alert))
            self._tell("raised", alert)

    def _resolve(self, key: str, now: float) -> None:
        self._clear_since.pop(key, None)
        alert = self._active.pop(key)
        alert.state = "resolved"
        alert.resolved_at = now
        self._resolved.append(alert)
        seconds = max(0.0, now - alert.first_at)
        log.info(
            "Alert resolved: %s for %s after %.0f s",
            TITLES[alert.kind],
            alert.service,
            seconds,
            extra=_extra("alert_resolved", alert),
        )
        self._tell("resolved", alert)

    def _retire(self, now: float) -> None:
        oldest = now - self.settings.retention
        while self._resolved and (self._resolved[0].resolved_at or 0.0) <= oldest:
            self._resolved.popleft()

    def _tell(self, event: Literal["raised", "resolved"], alert: Alert) -> None:
        if self._on_change is not None:
            self._on_change(event, alert)


def _extra(event: str, alert: Alert) -> dict[str, object]:
    return {
        "event": event,
        "alert": alert.id,
        "kind": alert.kind,
        "severity": alert.severity,
        "service": alert.service,
    }


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

"""Every metric of the gateway under the names that dashboards and alerts know.

The request path adds to plain cells; families over those cells are read at a scrape. What can be derived is not counted
twice: `http_requests_5xx_total` and `http_requests_429_total` are sums over the cells of `http_requests_total`, and a
command counter is its histogram's count, so that they can never disagree.

Label sets are bounded: routes, upstreams and policies are configured names, unknown methods are `_OTHER`, statuses
that are not registered are `1xx` to `5xx` (which `status=~"5.."` still matches). Because the label sets of the three
request counters differ, a ratio of two of them needs an aggregation on both sides; and because a series that is new
starts above zero, which `rate()` cannot see, its base is the duration's count, whose series exist from the start:

    sum(rate(http_requests_5xx_total[5m])) / sum(rate(http_request_duration_seconds_count[5m]))

Left out on purpose: clients, paths and request ids as labels. They are in the access log.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from prometheus_client import CollectorRegistry

from gateway.compiled import COMPILED
from gateway.reasons import CATEGORIES, REASONS
from gateway.telemetry.metrics import process_stats
from gateway.telemetry.metrics.cells import (
    LATENCY_BOUNDS,
    REDIS_BOUNDS,
    Combine,
    Family,
    Histogram,
    HistogramFamily,
    Labels,
)
from gateway.telemetry.metrics.collector import CellCollector
from gateway.telemetry.metrics.exposition import OPENMETRICS, TEXT, Exposition, negotiate
from gateway.telemetry.metrics.route_cells import RouteCells, label
from gateway.telemetry.metrics.snapshot import Parts, Snapshot, taken

Read = Callable[[], Iterable[tuple[Labels, float]]]
Counts = defaultdict[Labels, int]


class Metrics:
    """One per process. Methods marked HOT run for each request and neither allocate nor raise.

    Series of the configured `routes`, `upstreams` and rate limit `policies` exist with 0 from the start, so that an
    alert on `rate()` sees the first event. The route "" (no route matched) is exposed as `none`.
    """

    __slots__ = (
        "_bulkhead_rejections",
        "_client_closed",
        "_exempt",
        "_exposition",
        "_rate_limits",
        "_redis",
        "_retries",
        "_retry_budget_exhausted",
        "_routes",
        "_service",
        "_shed",
        "_transitions",
        "_upstream_errors",
        "attempts",
        "refusals",
        "registry",
    )

    def __init__(
        self,
        service: str,
        routes: Iterable[str],
        upstreams: Iterable[str],
        version: str,
        *,
        policies: Iterable[str] = (),
    ) -> None:
        upstreams = tuple(upstreams)
        self._service = service
        self._routes = {route or "none": RouteCells() for route in (*routes, "")}
        self.attempts = defaultdict(
            partial(Histogram, LATENCY_BOUNDS), {upstream: Histogram(LATENCY_BOUNDS) for upstream in upstreams}
        )
        """The seconds of attempts, however they ended, by upstream. HOT."""
        self._redis: dict[str, Histogram] = {}
        self._shed = _counts(("in_flight",), ("queue_full",), ("queue_timeout",), ("connections",))
        self.refusals: defaultdict[str, int] = defaultdict(int, dict.fromkeys(REASONS, 0))
        """Generated errors by the stable word in their bodies, and answers that the upstream broke off. HOT."""
        self._bulkhead_rejections = _counts(*((upstream,) for upstream in upstreams))
        self._rate_limits = {policy: [0, 0] for policy in policies}
        self._exempt = {policy: [0, 0] for policy in policies}
        self._retries = _counts(*((upstream,) for upstream in upstreams))
        self._retry_budget_exhausted = _counts(*((upstream,) for upstream in upstreams))
        self._upstream_errors = _counts(*((upstream, category) for upstream in upstreams for category in CATEGORIES))
        self._transitions = _counts(
            *((upstream, to) for upstream in upstreams for to in ("closed", "open", "half_open"))
        )
        self._client_closed = 0
        self._exposition = Exposition()
        for family in (*self._families(version), *process_stats.families()):
            self._exposition.add(family)
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(CellCollector(lambda: self._exposition.families))

    def route(self, name: str) -> RouteCells:
        """Where the exchanges of a route are counted; those of "" matched none."""
        return self._routes.setdefault(name or "none", RouteCells())

    def rate_limit(self, policy: str) -> list[int]:
        """Where the decisions of a rate limit are counted: the limited ones, the allowed ones."""
        return self._rate_limits.setdefault(policy, [0, 0])

    def exempt(self, policy: str) -> list[int]:
        """Where requests of clients are counted that the rate limit is not for. Only the second of the two numbers
        grows."""
        return self._exempt.setdefault(policy, [0, 0])

    def shed(self, reason: str) -> None:
        """One request turned away by the global caps: `in_flight`, `queue_full`, `queue_timeout` or `connections`."""
        self._shed[(reason,)] += 1

    def bulkhead_rejected(self, upstream: str) -> None:
        """Count a request that found no place, or no connection, at the upstream."""
        self._bulkhead_rejections[(upstream,)] += 1

    def retried(self, upstream: str) -> None:
        """One more attempt for a request that already had one."""
        self._retries[(upstream,)] += 1

    def retry_budget_exhausted(self, upstream: str) -> None:
        """Count an attempt that was not repeated because the upstream's retry budget was used up."""
        self._retry_budget_exhausted[(upstream,)] += 1

    def upstream_error(self, upstream: str, category: str) -> None:
        """One failed attempt, by one of `gateway.reasons.CATEGORIES`."""
        self._upstream_errors[upstream, category] += 1

    def circuit_transition(self, upstream: str, to: str) -> None:
        """One change of a circuit's state: closed, open, half_open, forced_open or forced_closed."""
        self._transitions[upstream, to] += 1

    def redis_command(self, command: str, seconds: float) -> None:
        """One exchange with Redis, failed ones included. `command` is a word of the code, never a key."""
        duration = self._redis.get(command)
        if duration is None:
            duration = self._redis[command] = Histogram(REDIS_BOUNDS)
        duration.observe(seconds)

    def client_closed(self) -> None:
        """One client that left before its answer was complete."""
        self._client_closed += 1

    @property
    def requests(self) -> int:
        """Requests answered so far, refused ones included."""
        return sum(count for cells in self._routes.values() for _, _, count in cells.counted())

    @property
    def shed_requests(self) -> int:
        """Requests and connections turned away by the global caps so far."""
        return sum(self._shed.values())

    @property
    def retries_not_made(self) -> dict[str, int]:
        """By upstream, those so far that its budget did not allow."""
        return {upstream: count for (upstream,), count in self._retry_budget_exhausted.items()}

    def gauge(self, name: str, documentation: str, label_names: Labels, read: Read, combine: Combine = "sum") -> None:
        """Add a gauge. `read` gives its values at each scrape, each series once; it is called on the event loop's
        thread and must not wait. `combine` says what the values of several workers amount to."""
        self._exposition.add(Family(name, "gauge", documentation, label_names, read, combine))

    def counter(self, name: str, documentation: str, label_names: Labels, read: Read, combine: Combine = "sum") -> None:
        """Add a counter whose count somebody else keeps. `read` is as for `gauge`; `name` ends in `_total`."""
        self._exposition.add(Family(name, "counter", documentation, label_names, read, combine))

    def histogram(
        self, name: str, documentation: str, label_names: Labels, read: Callable[[], Iterable[tuple[Labels, Histogram]]]
    ) -> None:
        """Add a histogram whose observations somebody else keeps. `read` is as for `gauge`."""
        self._exposition.add(HistogramFamily(name, documentation, label_names, read))

    def render(self, accept: str | None) -> tuple[bytes, str]:
        """The exposition and its content type, as the scraper's `Accept` asks for it."""
        openmetrics = negotiate(accept)
        return self._exposition.render(openmetrics=openmetrics), OPENMETRICS if openmetrics else TEXT

    def pieces(self, accept: str | None) -> tuple[Iterator[bytes], str]:
        """As `render`, but in pieces. All values are read at once, and each piece becomes text when it is asked for."""
        openmetrics = negotiate(accept)
        return self._exposition.pieces(openmetrics=openmetrics), OPENMETRICS if openmetrics else TEXT

    def snapshot(self) -> Snapshot:
        """All values of this moment, as plain data for another process."""
        return taken(self._exposition.families)

    def pieces_of_several(self, accept: str | None, parts: Parts) -> tuple[Iterator[bytes], str]:
        """As `pieces`, for several workers, whose snapshots were taken before."""
        openmetrics = negotiate(accept)
        content_type = OPENMETRICS if openmetrics else TEXT
        return self._exposition.pieces_of_several(parts, openmetrics=openmetrics), content_type

    def _families(self, version: str) -> Iterator[Family | HistogramFamily]:
        build = (((version, "true" if COMPILED else "false"), 1),)
        yield Family(
            "gateway_build_info",
            "info",
            "The running version, and whether its hot modules are compiled.",
            ("version", "compiled"),
            lambda: build,
            "max",
        )
        yield from self._request_families()
        yield from self._peer_families()
        yield from self._decision_families()

    def _request_families(self) -> Iterator[Family | HistogramFamily]:
        """What clients get."""
        yield Family(
            "http_requests_total",
            "counter",
            "Requests answered, refused ones included.",
            ("service", "method", "route", "status"),
            self._requests,
        )
        yield Family(
            "http_requests_5xx_total",
            "counter",
            "The requests among http_requests_total that ended in a 5xx.",
            ("service", "route"),
            lambda: self._requests_where(lambda status: status >= 500 or status == 5),
        )
        yield Family(
            "http_requests_429_total",
            "counter",
            "The requests among http_requests_total that ended in a 429.",
            ("service", "route"),
            lambda: self._requests_where(lambda status: status == 429),
        )
        yield HistogramFamily(
            "http_request_duration_seconds",
            "From the request head to the last byte of the response, in seconds.",
            ("route",),
            lambda: (((route,), cells.duration) for route, cells in self._routes.items()),
        )

    def _peer_families(self) -> Iterator[Family | HistogramFamily]:
        """What goes on between the gateway and its upstreams, Redis, and clients that leave."""
        yield HistogramFamily(
            "upstream_request_duration_seconds",
            "One attempt at an upstream, in seconds.",
            ("upstream",),
            lambda: (((upstream,), duration) for upstream, duration in self.attempts.items()),
        )
        yield HistogramFamily(
            "redis_command_duration_seconds",
            "One exchange with Redis, failed ones included, in seconds.",
            ("command",),
            lambda: (((command,), duration) for command, duration in self._redis.items()),
        )
        yield Family(
            "redis_commands_total",
            "counter",
            "Exchanges with Redis, failed ones included.",
            ("command",),
            lambda: (((command,), duration.count) for command, duration in self._redis.items()),
        )
        yield Family(
            "gateway_client_closed_total",
            "counter",
            "Clients that left before their answer was complete.",
            (),
            lambda: (((), self._client_closed),),
        )

    def _decision_families(self) -> Iterator[Family]:
        """What the gateway decides by itself."""
        yield Family(
            "gateway_refusals_total",
            "counter",
            "Errors generated by the gateway, answers that broke off included.",
            ("reason",),
            lambda: (((reason,), count) for reason, count in self.refusals.items()),
        )
        yield Family(
            "rate_limit_decisions_total",
            "counter",
            "Decisions of the rate limits.",
            ("policy", "decision"),
            self._rate_limit_decisions,
        )
        plain: tuple[tuple[str, str, Labels, Counts], ...] = (
            ("load_shed_total", "Requests and connections turned away by the global caps.", ("reason",), self._shed),
            (
                "bulkhead_rejections_total",
                "Requests refused because their upstream had its fill.",
                ("downstream",),
                self._bulkhead_rejections,
            ),
            ("retry_attempts_total", "Attempts beyond the first.", ("upstream",), self._retries),
            (
                "retry_budget_exhausted_total",
                "Retries not made because the budget was spent.",
                ("upstream",),
                self._retry_budget_exhausted,
            ),
            (
                "downstream_errors_total",
                "Failed attempts at an upstream.",
                ("to_service", "category"),
                self._upstream_errors,
            ),
            (
                "circuit_breaker_transitions_total",
                "Changes of a circuit's state, as seen by this gateway.",
                ("upstream", "to"),
                self._transitions,
            ),
        )
        for name, documentation, label_names, counts in plain:
            # One trip of a circuit is noticed by every worker.
            combine: Combine = "seen" if counts is self._transitions else "sum"
            yield Family(name, "counter", documentation, label_names, counts.items, combine)

    def _rate_limit_decisions(self) -> Iterator[tuple[Labels, float]]:
        for policy, (limited, allowed) in self._rate_limits.items():
            yield (policy, "allowed"), allowed
            yield (policy, "limited"), limited
        for policy, (_, exempt) in self._exempt.items():
            yield (policy, "exempt"), exempt

    def _requests(self) -> Iterator[tuple[Labels, float]]:
        service = self._service
        for route, cells in self._routes.items():
            for method, status, count in cells.counted():
                yield (service, method, route, label(status)), count

    def _requests_where(self, wanted: Callable[[int], bool]) -> Iterator[tuple[Labels, float]]:
        for route, cells in self._routes.items():
            count = sum(count for _, status, count in cells.counted() if wanted(status))
            yield (self._service, route), count


def _counts(*labels: Labels) -> Counts:
    return defaultdict(int, dict.fromkeys(labels, 0))

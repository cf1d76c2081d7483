"""The mirror of a route: a copy of some of its requests goes to a shadow upstream, whose answers nobody gets.

    request passes its gates ──┬──▶ upstream of the route ──▶ the client, as on every route
                               └──▶ copy: waits until the whole request is here ──▶ shadow ──▶ read, counted, dropped

A copy begins in a later turn of the event loop than its request, and then goes its own way: no attempt, retry, deadline
or end of the one is known to the other. Where `max_in_flight` copies are under way, or the body is larger than
`max_body_bytes`, there is no copy, and this is counted. So copies take at most the product of the two in memory; the
pieces of a body are shared with the request meanwhile.

A copy is an errand of the gateway's own (`gateway.proxy.errands.errand`): what protects the shadow holds for it, and
nothing that is there for clients is asked or told of it. No request with the field `MARK` is copied, and every copy has
it.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.config.sections.mirror.model import MirrorConfig
from gateway.identity.withheld import spelt
from gateway.policy.turns import Percentage
from gateway.proxy.answers.refusals import DEFECT
from gateway.proxy.gate import Chain
from gateway.proxy.requests.body import BodyCopy
from gateway.proxy.upstreams.upstream import Upstream
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Labels
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import RouteAccount
from gateway.wire.message.request import Request

MARK: Final = "X-Gateway-Mirror"
"""The field that a copy has, with the name of the route."""

IN_FLIGHT: Final = "in_flight"
TOO_LARGE: Final = "body_too_large"
INCOMPLETE: Final = "incomplete"
STOPPING: Final = "stopping"
_DROPPED: Final = (
    *(IN_FLIGHT, TOO_LARGE, INCOMPLETE, STOPPING),
    *("circuit_open", "bulkhead_full", "endpoints_out", DEFECT.reason),
)
_OUTCOMES: Final = ("2xx", "3xx", "4xx", "5xx", "upstream_timeout", "upstream_unreachable", "upstream_protocol_error")


class UnderWay(BodyCopy):
    """A copy that may have to be given up."""

    __slots__ = ()

    def abandon(self) -> None:
        """There is no more time for it."""
        raise NotImplementedError


class Mirror:
    """Of one route. `chain` has the gates of the shadow alone. `outcomes` says what came of copies that were sent,
    `dropped` why others were not. `under_way` are those that have begun and not ended."""

    __slots__ = (
        "_forged",
        "_methods",
        "_percentage",
        "account",
        "chain",
        "config",
        "dropped",
        "mark",
        "outcomes",
        "under_way",
        "upstream",
    )

    def __init__(self, route: str, config: MirrorConfig, upstream: Upstream, chain: Chain) -> None:
        self.config = config
        self.upstream = upstream
        self.chain = chain
        self.account = RouteAccount("", upstream.name, RouteCells())
        self.mark = f"{MARK}: {route}\r\n".encode()
        self.outcomes = Counter(dict.fromkeys(_OUTCOMES, 0))
        self.dropped = Counter(dict.fromkeys(_DROPPED, 0))
        self.under_way: set[UnderWay] = set()
        self._methods = config.methods
        self._percentage = Percentage(config.percent)
        self._forged = re.compile(rb"^%b:[^\r\n]*\r\n" % spelt(MARK), re.IGNORECASE | re.MULTILINE)

    def takes(self, request: Request) -> bool:
        """Whether requests with this head may be copied."""
        if self._methods is not None and request.method not in self._methods:
            return False
        return request.method != "CONNECT" and self._forged.search(request.fields.lines) is None

    def unmarked(self, lines: bytes) -> bytes:
        """Field lines without the mark: only a shadow gets it."""
        return self._forged.sub(b"", lines)

    def chooses(self, request: Request) -> bool:
        """Whether this request, which may be copied, is one of the share, and there is room for its copy. HOT."""
        if not self._percentage.next():
            return False
        length = request.fields.length
        if length is not None and length > self.config.max_body_bytes:
            self.dropped[TOO_LARGE] += 1
            return False
        if len(self.under_way) >= self.config.max_in_flight:
            self.dropped[IN_FLIGHT] += 1
            return False
        return True

    def stop(self) -> None:
        """Give up every copy that is under way."""
        for each in list(self.under_way):
            each.abandon()


def register(metrics: Metrics, mirrors: Iterable[tuple[str, Mirror]]) -> None:
    """Add the metrics of these mirrors, which are given by the name of their route."""
    of_routes = tuple(mirrors)

    def outcomes() -> Iterator[tuple[Labels, float]]:
        for name, mirror in of_routes:
            for outcome, count in mirror.outcomes.items():
                yield (name, mirror.upstream.name, outcome), count

    def dropped() -> Iterator[tuple[Labels, float]]:
        for name, mirror in of_routes:
            for reason, count in mirror.dropped.items():
                yield (name, mirror.upstream.name, reason), count

    metrics.counter(
        "mirror_requests_total",
        "Copies of requests that went to a shadow upstream, by the class of the answer, or why there was none.",
        ("route", "upstream", "outcome"),
        outcomes,
    )
    metrics.counter(
        "mirror_dropped_total",
        "Copies of requests that were not sent, by reason.",
        ("route", "upstream", "reason"),
        dropped,
    )
    metrics.gauge(
        "mirror_in_flight",
        "Copies of requests that are under way, those whose body is still arriving included.",
        ("route", "upstream"),
        lambda: (((name, mirror.upstream.name), len(mirror.under_way)) for name, mirror in of_routes),
    )

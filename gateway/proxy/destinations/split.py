"""The split of a route: its requests go to several upstreams, in proportion to weights (`gateway.policy.split`).

The gate `split` chooses for each request, once, behind all that may refuse it for its client's sake and in front of the
gates of the upstreams (`gateway.proxy.gates.split`). The choice stays: retries are made at the same upstream, and an
open circuit changes nothing. Where the route has a fallback, a request goes on from its upstream as on every route; an
upstream of the split may be one of the fallback, and a request that was sent there in the first place skips it.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from gateway.config.sections.split.model import SplitConfig
from gateway.policy.split import Weights
from gateway.proxy.destinations.fallback import Fallback, Hop
from gateway.proxy.gate import Question
from gateway.proxy.ticket import Ticket
from gateway.proxy.upstreams.upstream import Upstream
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Labels
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import RouteAccount

_CLASSES: Final = ("other", "1xx", "2xx", "3xx", "4xx", "5xx")


class PartCells(RouteCells):
    """What is counted for the requests of a route that go to one of its upstreams: by the class of their status in
    `classes`, beside what is counted for the route as a whole, in the cells that this shares with it."""

    __slots__ = ("classes",)

    def __init__(self, whole: RouteCells) -> None:
        super().__init__()
        self.by_method = whole.by_method
        self.duration = whole.duration
        self.classes = [0] * len(_CLASSES)

    def exchange(self, method: str, status: int, seconds: float) -> None:
        """HOT."""
        super().exchange(method, status, seconds)
        self.classes[status // 100 if 100 <= status < 600 else 0] += 1


class Split:
    """Of one route. `upstreams`, `accounts`, `hops`, `counts` and `parts` are in the order of the configuration: where
    a request goes, where it is counted then, where its fallback leads from there, how many there were, and how those
    that are over have ended. A ticket has the index in `variant`."""

    __slots__ = ("_field", "_sticky", "accounts", "config", "counts", "hops", "parts", "upstreams", "weights")

    def __init__(self, config: SplitConfig, upstreams: Sequence[Upstream]) -> None:
        self.config = config
        self.upstreams = tuple(upstreams)
        self.weights = Weights(config.to)
        self.counts = [0] * len(config.to)
        self.accounts: tuple[RouteAccount, ...] = ()
        self.parts: tuple[PartCells, ...] = ()
        self.hops: tuple[tuple[Hop, ...], ...] = ()
        self._sticky = config.sticky != "none"
        self._field: re.Pattern[bytes] | None = None
        if config.field is not None:
            pattern = f"^{re.escape(config.field)}:([^\\r\\n]*)\\r\\n"
            self._field = re.compile(pattern.encode(), re.IGNORECASE | re.MULTILINE)

    def serve(self, route: str, prefix: str, cells: RouteCells, fallback: Fallback | None) -> None:
        """Become the split of this route. Call it before the first request."""
        self.parts = tuple([PartCells(cells) for _ in self.upstreams])
        self.accounts = tuple(
            [
                RouteAccount(route, each.name, part, prefix)
                for each, part in zip(self.upstreams, self.parts, strict=True)
            ]
        )
        hops = () if fallback is None else fallback.hops
        self.hops = tuple([tuple([hop for hop in hops if hop.upstream is not each]) for each in self.upstreams])

    def choose(self, ticket: Ticket) -> None:
        """Choose for a request, and have it counted there. HOT."""
        weights = self.weights
        index = weights.of(self._key(ticket)) if self._sticky else weights.next()
        ticket.variant = index
        account = self.accounts[index]
        ticket.account = account
        ticket.log_part = ticket.log_part.of_upstream(account.service)
        self.counts[index] += 1

    def foreseen(self, question: Question) -> int | None:
        """The index for a request of this client; None where that cannot be said before it comes."""
        if self.config.sticky != "client":
            return None if max(self.weights.weights) < sum(self.weights.weights) else self.weights.heaviest
        caller = question.caller
        return self.weights.of(_of_client(None if caller is None else caller.consumer, question.client))

    def explained(self, question: Question) -> int:
        """The index that an explanation is about: the one that is foreseen, else the one with the largest weight."""
        index = self.foreseen(question)
        return self.weights.heaviest if index is None else index

    def _key(self, ticket: Ticket) -> bytes:
        if self._field is not None:
            lines, hooked = ticket.request.fields.lines, ticket.hooked
            found = self._field.search(lines if hooked is None else hooked.applied(lines))
            value = found[1].strip(b" \t") if found is not None else b""
            if value:
                return b"field:" + value
        caller = ticket.caller
        return _of_client(None if caller is None else caller.consumer, ticket.client)


def _of_client(consumer: str | None, client: str) -> bytes:
    """Who is known is taken for the same from everywhere."""
    return f"client:{client}".encode() if consumer is None else f"consumer:{consumer}".encode()


def register(metrics: Metrics, splits: Iterable[tuple[str, Split]]) -> None:
    """Add the metrics of these splits, which are given by the name of their route."""
    of_routes = tuple(splits)

    def requests() -> Iterator[tuple[Labels, float]]:
        for name, split in of_routes:
            for upstream, count in zip(split.upstreams, split.counts, strict=True):
                yield (name, upstream.name), count

    def responses() -> Iterator[tuple[Labels, float]]:
        for name, split in of_routes:
            for upstream, part in zip(split.upstreams, split.parts, strict=True):
                for word, count in zip(_CLASSES, part.classes, strict=True):
                    if count or word != "other":
                        yield (name, upstream.name, word), count

    def weights() -> Iterator[tuple[Labels, float]]:
        for name, split in of_routes:
            for index, upstream in enumerate(split.upstreams):
                yield (name, upstream.name), split.weights.share(index)

    metrics.counter(
        "split_requests_total",
        "Requests of routes that split them, by the upstream that was chosen.",
        ("route", "upstream"),
        requests,
    )
    metrics.counter(
        "split_responses_total",
        "Requests of routes that split them, by the upstream that was chosen and the class of the answer's status.",
        ("route", "upstream", "status"),
        responses,
    )
    metrics.gauge(
        "gateway_split_share_ratio",
        "The part of a route's requests that is to go to an upstream, from 0 to 1.",
        ("route", "upstream"),
        weights,
        "max",
    )

"""The store port: what replicas share, in the words of the domain.

Every method answers within the store's own time limit or raises `StoreUnavailable`, and nothing else. One that changes
something for the fleet may need two exchanges with the store, each within the time limit. Only `take`, `sync`,
`endpoints_out`, `faults`, `chaos` and `drop_chaos` may answer later, after up to about a second: their callers go on
without the answer once `time_limit` has passed, or wait for nothing, but they still want to know what the store did.

The store owns the clock of what it keeps: Redis `TIME`, or the injected clock of the store in memory. So replicas agree
although their clocks differ. All times that cross the port are durations in seconds, never instants.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.lease.ask import Ask, Grant
from gateway.policy.outcome import Outcome
from gateway.store.faults import FaultStore
from gateway.store.usage import UsageStore


class StoreUnavailable(Exception):
    """The store did not answer, or not in time. The cause is chained; the message is safe to log."""


@dataclass(frozen=True, slots=True)
class CircuitReport:
    """What one replica has seen of one upstream: a summary of its current window, and not what is new in it.

    `generation` is the generation of the circuit that all of it belongs to. `calls`, `failures` and `slow_calls` are
    those of the window; `unreached` of the failures had no connection. `failure_ages` are the seconds since each of the
    failures after its own last success, the newest first, at most `failure_threshold` of them. `answered` says that
    each of those was an answer of the upstream itself, which proves that this replica's network works. `success_age` is
    the seconds since the last success, and `unreached_age` those since the last failure without a connection; None when
    there is none that matters. `reachable` is told once, after the replica was `asked`: whether it got a connection
    when it tried.
    """

    upstream: str
    settings: BreakerSettings
    generation: int
    calls: int
    failures: int
    slow_calls: int
    failure_ages: tuple[float, ...]
    success_age: float | None
    answered: bool = False
    unreached_age: float | None = None
    unreached: int = 0
    reachable: bool | None = None


@dataclass(frozen=True, slots=True)
class CircuitSnapshot:
    """The fleet's verdict about one upstream, as one replica is to see it.

    `retry_after` is the seconds until the next probe or until the end of a forced state. For a closed circuit it is the
    seconds until a suspicion is decided, 0 when there is none. `known` is False when the store kept nothing about the
    circuit before this call, because it is new or was deleted. The generations of one store only increase.

    A half-open circuit is open to a replica that is cut off, which means that its own probe, or its try when it was
    asked, got no connection. `asked` tells the replica to try whether it can connect to the upstream. `denied` tells it
    that it had no connection while another replica could connect, so that its failures count for itself alone.
    """

    upstream: str
    known: bool
    state: CircuitState
    generation: int
    failures: int
    retry_after: float
    cause: str
    asked: bool = False
    denied: bool = False


@dataclass(frozen=True, slots=True)
class ProbeLease:
    """The right to send one probe. It lapses after its time, and when its holder no longer reports."""

    upstream: str
    generation: int
    token: str


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """`replicas` alive, this one included; one snapshot for each report, in order.

    `version` changes whenever any circuit of the fleet changes, so that a replica notices it without reading circuits
    that it does not use. `epoch` identifies the store's memory: another epoch means that the store has lost its memory,
    by a restart or a flush.

    `again` says that a report has changed a circuit, and that the other replicas learn of it with the next `sync`,
    which should follow at once.
    """

    replicas: int
    circuits: tuple[CircuitSnapshot, ...]
    version: int = 0
    epoch: int = 0
    again: bool = False


class EndpointOut(NamedTuple):
    """An endpoint that an operator has taken out, for another `left` seconds.

    It gets no new requests, and requests that are under way are finished. A `disabled` endpoint is not asked for its
    health either. `endpoint` is `host:port`.
    """

    upstream: str
    endpoint: str
    mode: Literal["drained", "disabled"]
    left: float
    reason: str


class EndpointStore(Protocol):
    """The endpoints that operators have taken out, for the whole fleet.

    A change raises the version of the circuits (`SyncAnswer.version`), so that no replica has to ask again and again.
    """

    async def take_out(self, out: EndpointOut) -> None:
        """Take an endpoint out, in place of what was said about it before."""
        ...

    async def bring_back(self, upstream: str, endpoint: str) -> bool:
        """Let an endpoint serve again. Returns whether it was out."""
        ...

    async def endpoints_out(self) -> Sequence[EndpointOut]:
        """The endpoints that are out now."""
        ...


class Store(EndpointStore, UsageStore, FaultStore, Protocol):
    """What the replicas share about buckets, circuits, endpoints, faults, and what tenants use."""

    @property
    def time_limit(self) -> float:
        """The seconds after which an answer is late. It follows the time that the store usually takes."""
        ...

    async def take(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        """Serve many buckets in one exchange with the store. The grants are in the order of the asks."""
        ...

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer:
        """Say that this replica is there, report what it has seen, and learn the fleet's verdicts."""
        ...

    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot:
        """The right to probe a half-open circuit for `lease_time` seconds, or the circuit as it is if there is none."""
        ...

    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot:
        """Tell how a probe ended.

        A lease that has lapsed, or that is of an earlier generation, changes nothing. A probe that failed because it
        got no connection (`reached` is False) opens the circuit again only when all replicas are cut off.
        """
        ...

    async def force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> CircuitSnapshot:
        """Force a circuit open or closed for `duration` seconds. With None as the state, end the force."""
        ...

    async def reset(self, upstream: str) -> None:
        """Forget the circuit, so that it is closed everywhere."""
        ...

    async def close(self) -> None:
        """Leave the fleet, and close every connection."""
        ...


class FigureDelta(NamedTuple):
    """What one replica has counted for one service since its last delta.

    Each of the `cells` is the age of its first event in seconds, and a vector of counts, whose elements mean nothing to
    the store. `sequence` increases with each delta of a replica for a service. A delta that the store has seen already
    is not added again, so one whose answer was lost may be sent again. `last_error_age` is in seconds, None for no
    error.
    """

    service: str
    sequence: int
    cells: tuple[tuple[float, tuple[int, ...]], ...]
    last_error_age: float | None


class FigureSum(NamedTuple):
    """The sum of all replicas' count vectors, and the seconds since the last error of any (None: none)."""

    counts: tuple[int, ...]
    last_error_age: float | None


class FigureStore(Protocol):
    """What replicas have counted, in cells of `FIGURES_CELL` seconds of the store's clock.

    A cell is kept for `FIGURES_KEPT` seconds, whether or not the replica that counted it is still there.
    """

    async def add_figures(self, deltas: Sequence[FigureDelta]) -> dict[str, int]:
        """Add the counts, except those of cells that began before the service's last reset.

        Returns the services that were reset within the last hour, each with a number that differs for each reset.
        """
        ...

    async def sum_figures(self, services: Sequence[str], window: float, width: int) -> Sequence[FigureSum]:
        """The sum of the last `window` seconds for each service, as vectors of `width` counts.

        The cell in which the window begins is counted as a whole. Vectors of another width, which replicas of another
        version have counted, are cut or filled up with zeros.
        """
        ...

    async def reset_figures(self, service: str) -> None:
        """Forget the service's counts."""
        ...

    async def add_records(self, records: Sequence[bytes], keep: int) -> None:
        """Put the records, which come oldest first, before those that are there. Keep only the newest `keep`."""
        ...

    async def records(self, count: int) -> Sequence[bytes]:
        """At most `count` records, the newest first."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


FIGURES_CELL = 10.0
FIGURES_KEPT = 3600.0
"""Seconds, both."""

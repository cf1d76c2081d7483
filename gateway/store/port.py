"""The store port: what replicas share, in the words of the domain.

Every method answers within the store's own time limit or raises `StoreUnavailable`; nothing else comes out. Only `take`
and `sync` may answer late, up to about a second: who calls them goes on without the answer when `time_limit` has
passed, and still wants to know what the store did. The store owns the clock of what it keeps (Redis `TIME`, or the
injected clock of the memory store), so that replicas whose clocks differ agree. Amounts of time that cross the port are
durations in seconds, never instants.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from gateway.policy.breaker import BreakerSettings, CircuitState
from gateway.policy.outcome import Outcome
from gateway.policy.token_bucket import RateLimitPolicy


class StoreUnavailable(Exception):
    """The store did not answer, or not in time. The cause is chained; the message is safe to log."""


class Ask(NamedTuple):
    """What one replica asks for one client's bucket: tokens for waiting requests, and a lease beyond them.

    `want` requests wait now. `lease_id` is the lease of this bucket that this replica holds (0: none) and `unspent`
    what is left of it; the call ends that lease: what is unspent is given back and, with `lease` > 0, a new one of at
    least `unspent` and at most `unspent + lease` tokens taken in its place. When the store knows another lease of this
    replica, the message was overtaken by a later one or an answer was lost: that lease stands, and nothing is given
    back or leased. `debt` tokens were spent by this replica on its own while the store was away; they are taken off
    what the bucket holds, which may leave it owing as much as its capacity. `debt_id` is greater for each debt of a
    replica; one that was told already is not taken off again, so a debt whose answer was lost may be told again.
    """

    policy: RateLimitPolicy
    client: str
    want: int
    lease: int = 0
    unspent: int = 0
    lease_id: int = 0
    debt: int = 0
    debt_id: int = 0


class Grant(NamedTuple):
    """The answer to an `Ask`, in the same order.

    `granted` of the `want` requests go through. `leased` tokens may be spent by this replica for the next `lease_time`
    seconds, counted from before the ask was sent; `lease_id` names that lease (0: none). `remaining` is what the
    bucket holds besides, below zero if it owes; `retry_after` and `reset_after` as in `Decision`. `held_elsewhere`
    tokens are leased to other replicas, and what is unspent of them comes back within about `held_time` seconds.
    """

    granted: int
    leased: int
    lease_id: int
    lease_time: float
    remaining: float
    retry_after: float
    reset_after: float
    held_elsewhere: int
    held_time: float


@dataclass(frozen=True, slots=True)
class CircuitReport:
    """One replica's own evidence about one upstream, a summary of its current window and not a delta.

    `failure_ages` are the seconds since each of its latest failures after its own last success, newest first, at most
    `failure_threshold` of them; `success_age` is the seconds since that success (None: none in the window). `answered`
    says that each of those failures was an answer of the upstream itself, so that this replica's network is beyond
    suspicion. `unreached_age` is the seconds since its last failure without a connection (None: none that matters),
    `unreached` how many of `failures` had none. `reachable` is its word, once, after it was `asked` for it: whether a
    connection came about when it tried. `generation` is the one all of that belongs to.
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
    """What the fleet holds to be true of one upstream. `retry_after` is seconds to the next probe or the end of a
    forced state; of a closed circuit, seconds until a suspicion is decided (0: none). `known` is False when the store
    kept nothing about the circuit before this call (new, or deleted). Generations of one store only ever increase.

    A half-open circuit is open to a replica that is cut off: whose own probe, or try when asked, got no connection.
    The replica is `asked` to try whether the upstream can be reached from where it is, and `denied` when it had no
    connection but another one could make one: its failures count for itself alone."""

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
    """The right to send one probe. Lapses by itself, and when its holder no longer reports."""

    upstream: str
    generation: int
    token: str


@dataclass(frozen=True, slots=True)
class SyncAnswer:
    """`replicas` alive, this one included; one snapshot for each report, in order.

    `version` changes whenever any circuit of the fleet does, so a replica need not read idle circuits to notice.
    `epoch` identifies the store's memory: another one means that it was lost (a restart, a flush).
    """

    replicas: int
    circuits: tuple[CircuitSnapshot, ...]
    version: int = 0
    epoch: int = 0


class EndpointOut(NamedTuple):
    """An endpoint that an operator has taken out, for another `left` seconds. Either way it gets no new requests and
    what is under way ends by itself; a `disabled` one is not asked for its health either. `endpoint` is `host:port`."""

    upstream: str
    endpoint: str
    mode: Literal["drained", "disabled"]
    left: float
    reason: str


class EndpointStore(Protocol):
    """What operators have done to endpoints, for the whole fleet. A change is announced with the version of the
    circuits (`SyncAnswer.version`), so that nobody has to ask again and again."""

    async def take_out(self, out: EndpointOut) -> None:
        """Replaces what was said of that endpoint before."""
        ...

    async def bring_back(self, upstream: str, endpoint: str) -> bool:
        """Whether it was out."""
        ...

    async def endpoints_out(self) -> Sequence[EndpointOut]: ...


class Store(EndpointStore, Protocol):
    @property
    def time_limit(self) -> float:
        """Seconds after which an answer is late. Follows what the store usually takes."""
        ...

    async def take(self, asks: Sequence[Ask]) -> Sequence[Grant]:
        """Serve many buckets in one exchange with the store."""
        ...

    async def sync(self, reports: Sequence[CircuitReport]) -> SyncAnswer:
        """Heartbeat, evidence out, verdicts in."""
        ...

    async def lease_probe(
        self, upstream: str, settings: BreakerSettings, lease_time: float
    ) -> ProbeLease | CircuitSnapshot:
        """The right to probe a half-open circuit, or why not."""
        ...

    async def settle_probe(
        self, lease: ProbeLease, settings: BreakerSettings, outcome: Outcome, reached: bool = True
    ) -> CircuitSnapshot:
        """Tell how a probe ended. A lease that lapsed or belongs to an earlier generation changes nothing. A failure
        for want of a connection (`reached` False) reopens the circuit only when all replicas are cut off."""
        ...

    async def force(self, upstream: str, state: CircuitState | None, duration: float, cause: str) -> CircuitSnapshot:
        """Force a circuit open or closed for `duration` seconds; None releases it."""
        ...

    async def reset(self, upstream: str) -> None:
        """Forget the circuit: closed everywhere."""
        ...

    async def close(self) -> None: ...


class FigureDelta(NamedTuple):
    """What one replica has counted for one service since its last delta, as pairs of the seconds since the first of it
    and a count vector, whose elements mean nothing to the store. `sequence` increases with each delta of a replica for
    a service; one that was seen already is not added again, so a delta whose answer was lost may be sent again."""

    service: str
    sequence: int
    cells: tuple[tuple[float, tuple[int, ...]], ...]
    last_error_age: float | None


class FigureSum(NamedTuple):
    """The sum of all replicas' count vectors, and the seconds since the last error of any (None: none)."""

    counts: tuple[int, ...]
    last_error_age: float | None


class FigureStore(Protocol):
    """What replicas have counted, in ten-second cells of the store's clock, kept for `FIGURES_KEPT` seconds whether or
    not the replica that counted them still lives."""

    async def add_figures(self, deltas: Sequence[FigureDelta]) -> dict[str, int]:
        """Add, except what began before the service's last reset. Answers with every service that was reset within
        the last hour and a number that is another for each reset."""
        ...

    async def sum_figures(self, services: Sequence[str], window: float, width: int) -> Sequence[FigureSum]:
        """The last `window` seconds of each service, the cell in which they begin as a whole; vectors of `width`."""
        ...

    async def reset_figures(self, service: str) -> None:
        """Forget the service's counts."""
        ...

    async def add_records(self, records: Sequence[bytes], keep: int) -> None:
        """Put the records, oldest first, in front of those that are there, and drop all but the first `keep`."""
        ...

    async def records(self, count: int) -> Sequence[bytes]:
        """At most `count` records, the last added first."""
        ...

    async def close(self) -> None: ...


FIGURES_CELL = 10.0
FIGURES_KEPT = 3600.0
"""Seconds, both."""

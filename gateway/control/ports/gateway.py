"""What the control plane may know about the gateway: read-only, cheap, and true at the moment of asking.

The composition root provides it. Every attribute answers from memory without waiting; instants are seconds since the
epoch, durations are seconds. Nothing here carries an address of the store or a secret.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, NamedTuple, Protocol

from gateway.control.ports.journal import JournalView


class RedisView(NamedTuple):
    """The link to a store. `since` is when `up` last changed (or the start). `last_error` names a kind of failure and
    no address."""

    up: bool
    since: float
    last_error: str | None
    replicas: int


class CircuitView(NamedTuple):
    """One upstream's circuit. `state` is closed, open, half_open, forced_open or forced_closed; `retry_after` the time
    until it lets an attempt through, and 0 where it does so now; `opened_at` is None unless it is open. `calls`,
    `failed_calls` and `slow_calls` are what this replica has in the breaker's window, or had when the circuit was last
    closed. `forced_for` is the time to the end of a forced state, whichever it is, 0 where there is none."""

    upstream: str
    state: str
    failures: int
    generation: int
    retry_after: float
    cause: str
    opened_at: float | None
    calls: int = 0
    failed_calls: int = 0
    slow_calls: int = 0
    forced_for: float = 0.0


class CertificateView(NamedTuple):
    """The listener's certificate. `not_after` is when it expires, None where that is not known. `problem` says why the
    files cannot be used as they are now; it is None while the certificate in the files is the one that is served."""

    not_after: float | None
    problem: str | None


class IssuerView(NamedTuple):
    """Whose tokens count. `keys` describe those that can be used; with `usable` False none can, so no token can be
    checked. `age` is since the last good answer, None without one; `next_in` until the next fetch, None for a file.
    `problem` says why the last fetch brought nothing, None after a good one."""

    name: str
    issuer: str
    algorithms: tuple[str, ...]
    keys: tuple[str, ...]
    usable: bool
    age: float | None
    next_in: float | None
    problem: str | None


class EndpointView(NamedTuple):
    """One address of an upstream. `healthy` is the active check's opinion (True without one). `out` is `drained` or
    `disabled` while an operator has taken it out, for another `out_for` seconds because of `out_reason`."""

    upstream: str
    endpoint: str
    healthy: bool
    ejected: bool
    in_flight: int
    out: Literal["", "drained", "disabled"] = ""
    out_for: float = 0.0
    out_reason: str = ""

    @property
    def available(self) -> bool:
        """Whether new requests may be sent to it."""
        return self.healthy and not self.ejected and not self.out


class GateView(NamedTuple):
    """One gate of a route. With `per_attempt` it is passed before each attempt. `settings` are plain values; caps are
    this worker's part of them."""

    name: str
    per_attempt: bool
    settings: Mapping[str, object]


class FallbackView(NamedTuple):
    """What a route has in place of an answer of its upstream: the upstreams that are asked then, what it is used `on`,
    for how many seconds a last good answer is given again (0: never), and the status of the fixed response."""

    upstreams: tuple[str, ...]
    on: tuple[str, ...]
    stale_if_error: float
    response: int | None


class SplitView(NamedTuple):
    """How a route shares its requests among upstreams: their weights, and what a client stays with its upstream by:
    `none`, `client`, or the name of a header field."""

    weights: Mapping[str, int]
    sticky: str


class MirrorView(NamedTuple):
    """Which part of a route's requests is copied to a shadow. `methods` None: of all."""

    upstream: str
    percent: float
    methods: tuple[str, ...] | None


class RouteView(NamedTuple):
    """One route: what it matches, and where its requests go. `methods` None means all of them; `host` empty: any.
    `describe` gives its gates as they are now, in the order in which a request passes them."""

    name: str
    host: str
    prefix: str
    methods: tuple[str, ...] | None
    upstream: str
    websocket: bool
    describe: Callable[[], tuple[GateView, ...]]
    fallback: FallbackView | None = None
    split: SplitView | None = None
    mirror: MirrorView | None = None


class WorkerView(NamedTuple):
    """One worker process. `state` is starting, ready, draining or stalled. `loop_lag` in seconds; `rss` in bytes, None
    where the system does not say it."""

    slot: int
    pid: int
    state: Literal["starting", "ready", "draining", "stalled"]
    started_at: float
    connections: int
    in_flight: int
    requests_per_second: float
    loop_lag: float
    rss: int | None


class ReloadView(NamedTuple):
    """The last time that a configuration was read. `succeeded_at` is when one was last taken over."""

    successful: bool
    at: float
    succeeded_at: float | None
    problems: tuple[str, ...]


class HostView(NamedTuple):
    """The workers of this gateway, as the supervisor told about a second ago. `worker` is the slot of the one that
    answers; `restarts` counts replaced workers by cause; `recent` are those of the last five minutes: seconds ago,
    slot, cause. `config_hash` is hexadecimal."""

    worker: int
    wanted: int
    workers: tuple[WorkerView, ...]
    restarts: Mapping[str, int]
    recent: tuple[tuple[float, int, str], ...]
    reload: ReloadView | None
    config_hash: str


class GatewayView(Protocol):
    """`redis` None means that none is configured. `connections` are those of clients, `upstream_connections` those to
    upstreams, idle ones included in both. `tunnels` yields each WebSocket route with its open tunnels.
    `certificate` None means a listener without TLS."""

    @property
    def service(self) -> str:
        """The name of this gateway (`SERVICE_NAME`)."""
        ...

    @property
    def version(self) -> str:
        """The version of the program."""
        ...

    @property
    def started_at(self) -> float:
        """When the process began."""
        ...

    @property
    def starting(self) -> bool:
        """Whether the gateway is not listening yet."""
        ...

    @property
    def draining(self) -> bool:
        """Whether the gateway is stopping."""
        ...

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""
        ...

    @property
    def max_in_flight(self) -> int:
        """How many requests may be in flight at once (`MAX_INFLIGHT`)."""
        ...

    @property
    def connections(self) -> int:
        """How many connections clients have, idle ones included."""
        ...

    @property
    def upstream_connections(self) -> int:
        """How many connections to upstreams there are, idle ones included."""
        ...

    @property
    def host(self) -> HostView | None:
        """The workers of this gateway; None where it is this process alone."""
        ...

    @property
    def redis(self) -> RedisView | None:
        """The link to Redis, None where none is configured."""
        ...

    @property
    def embedded_store(self) -> RedisView | None:
        """The link to the embedded store, None where a Redis is configured."""
        ...

    @property
    def journal(self) -> JournalView | None:
        """The journal, None where no route needs one."""
        ...

    @property
    def replicas(self) -> int:
        """The live workers last seen: of all gateways on the same Redis, or without Redis of this one."""
        ...

    @property
    def certificate(self) -> CertificateView | None:
        """The listener's certificate, None where it has no TLS."""
        ...

    @property
    def issuers(self) -> Iterable[IssuerView]:
        """The issuers of tokens, where a route takes any."""
        ...

    @property
    def circuits(self) -> Iterable[CircuitView]:
        """The circuit of each upstream."""
        ...

    @property
    def endpoints(self) -> Iterable[EndpointView]:
        """Every endpoint of every upstream."""
        ...

    @property
    def routes(self) -> Iterable[RouteView]:
        """Every route, in the order of the configuration."""
        ...

    @property
    def tunnels(self) -> Iterable[tuple[str, int]]:
        """Each WebSocket route, with the number of its open tunnels."""
        ...


class CircuitCommands(Protocol):
    """What an operator may do to a circuit. True: in the whole fleet; False: only here, because the store is away."""

    async def force(
        self, upstream: str, state: Literal["forced_open", "forced_closed"], duration: float, cause: str
    ) -> bool:
        """Hold it there for `duration` seconds."""
        ...

    async def release(self, upstream: str) -> bool:
        """End a forced state, if there is one."""
        ...


class EndpointCommands(Protocol):
    """What an operator may do to an endpoint. True: in the whole fleet; False: only here, because the store is away."""

    async def take_out(
        self, upstream: str, endpoint: str, mode: Literal["drained", "disabled"], duration: float, reason: str
    ) -> bool:
        """No new requests for `duration` seconds."""
        ...

    async def bring_back(self, upstream: str, endpoint: str) -> bool:
        """Let new requests go there again, if an operator had taken it out."""
        ...


UNPLANNED = frozenset({"died", "stalled"})
"""The causes for which a worker is replaced though nobody wanted it."""


class ServiceChange(NamedTuple):
    """What came of an order to the whole service. With `problems` nothing was changed; `differences` are the settings
    that are other ones now, or would be."""

    done: bool
    problems: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


class ServiceCommands(Protocol):
    """What an operator may do to the service as a whole."""

    async def reload(self, *, dry_run: bool) -> ServiceChange:
        """Read the configuration anew. A `dry_run` only says what would change."""
        ...

    async def upgrade(self) -> ServiceChange:
        """Run the code that is installed now."""
        ...


PASSING = frozenset({"closed", "forced_closed"})
"""The states in which a circuit lets traffic through. Half-open lets through probes only."""


def plain_state(state: str) -> str:
    """closed, open or half_open: what a forced state amounts to."""
    return state.removeprefix("forced_")

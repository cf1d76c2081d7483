"""What a worker shares with others: through Redis with the workers of all hosts, without Redis through the supervisor
with those of its own. One code path serves both; they differ in the store and in what it is called."""

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from gateway.config.model import GatewayConfig
from gateway.fleet.circuits import Circuits
from gateway.fleet.endpoints import EndpointsOut
from gateway.fleet.figures import FleetFigures
from gateway.fleet.following import Following
from gateway.fleet.limiter import SharedLimiter
from gateway.fleet.link import Link
from gateway.fleet.sync import FleetSync
from gateway.ipc.channel import Channel
from gateway.policy.breaker import CircuitState
from gateway.store.keys import KeyStore
from gateway.store.memory import MemoryStore
from gateway.store.memory.figures import MemoryFigures
from gateway.store.port import FigureStore, Store
from gateway.store.served.client import ServedFigures, ServedStore
from gateway.syntax import hosts
from gateway.telemetry.services.cells import WIDTH
from gateway.telemetry.services.errors import ErrorLog
from gateway.telemetry.services.figures import Records
from gateway.wire.client.dial import reachable
from gateway.wire.client.resolver import Resolver

REDIS: Final = "Redis"
EMBEDDED: Final = "Embedded store"
"""What the store is called in log lines."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is shared with other replicas. `following` is what the exchange with them reads when something changed."""

    link: Link
    circuits: Circuits
    limiter: SharedLimiter
    out: EndpointsOut
    store: Store
    sync: FleetSync
    following: Following
    figures: FleetFigures
    figure_store: FigureStore
    keys: KeyStore | None
    """API keys, which Redis alone keeps: a store in memory would forget them."""


def build_fleet(
    config: GatewayConfig,
    channel: Channel | None,
    errors: ErrorLog,
    resolver: Resolver,
    observe: Callable[[str, float], None],
    transitioned: Callable[[str, CircuitState, CircuitState, str], None],
) -> Fleet:
    """The store over `channel`, or in this process where there is none, unless a Redis is configured. `observe` is told
    of every exchange with Redis, `transitioned` of every transition of a circuit."""
    clock = time.monotonic
    upstreams = config.upstreams.values()
    labels = {each.name: [hosts.written(one.host, one.port) for one in each.endpoints] for each in upstreams}
    replica = uuid.uuid4().hex[:12]
    store, figure_store, keys = _stores(config, channel, replica, observe)
    link = Link(clock, starting=True, store=EMBEDDED if config.redis is None else REDIS)
    circuits = Circuits(upstreams, store, link, clock, transitioned, partial(reachable, resolver.resolve))
    out = EndpointsOut(labels, store, link, clock)
    following = Following(out)
    # What is to happen without Redis says nothing of a supervisor that is gone.
    on_failure = "local" if config.redis is None else config.rate_limits.on_redis_failure
    return Fleet(
        link,
        circuits,
        SharedLimiter(store, link, on_failure, clock),
        out,
        store,
        FleetSync(store, link, circuits, clock, followed=following),
        following,
        FleetFigures(
            figure_store,
            link,
            errors.cells,
            Records(errors, replica),
            width=WIDTH,
            keep_records=config.errors.recent_max,
        ),
        figure_store,
        keys,
    )


def _stores(
    config: GatewayConfig, channel: Channel | None, replica: str, observe: Callable[[str, float], None]
) -> tuple[Store, FigureStore, KeyStore | None]:
    if config.redis is not None:
        # It takes the client library with it, which a gateway without Redis needs neither time nor memory for.
        from gateway.store.redis import RedisStore  # noqa: PLC0415
        from gateway.store.redis.figures import RedisFigures  # noqa: PLC0415

        store = RedisStore(config.redis, replica, observe)
        return store, RedisFigures(config.redis, replica, observe), store
    if channel is not None:
        return ServedStore(channel), ServedFigures(channel), None
    return MemoryStore(), MemoryFigures(), None

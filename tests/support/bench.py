"""A gateway without sockets: the test plays its client and its upstreams."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from gateway.assembly.gateway import Gateway, build
from gateway.config import load
from gateway.proxy.gates.places import PlaceGate
from gateway.proxy.routes.topology import Route
from gateway.telemetry.log.lines import LineWriter
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.server.connection import ServerConnection
from tests.support.fake_transport import FakeTransport


class Bench:
    """A gateway whose upstream connections are fed by the test."""

    def __init__(self, gateway: Gateway, stack: ExitStack) -> None:
        self.gateway = gateway
        self.stack = stack
        self.client = self.transport()
        self.connection = ServerConnection(gateway.server)
        self.connection.connection_made(self.client)

    @property
    def route(self) -> Route:
        return self.gateway.topology.routes[0]

    def transport(self) -> FakeTransport:
        return self.stack.enter_context(FakeTransport())

    def upstream(self) -> tuple[UpstreamConnection, FakeTransport]:
        """A connection that lies idle in the pool of the only endpoint."""
        pool = self.route.upstream.endpoints[0].pool
        transport = self.transport()
        connection = UpstreamConnection(pool, "127.0.0.1")
        connection.connection_made(transport)
        pool.release(connection)
        return connection, transport

    def ask(self, request: bytes) -> None:
        self.connection.data_received(request)

    def counted(self, method: str, status: int) -> int:
        counted = self.gateway.telemetry.metrics.route("proxy").counted()
        return {(method, status): count for method, status, count in counted}.get((method, status), 0)

    def nothing_is_held(self) -> bool:
        """Every gate is left and no exchange is in flight."""
        limits = [gate.limit for gate in self.route.chain.gates if isinstance(gate, PlaceGate)]
        return self.gateway.runtime.exchanges == 0 and all(not (each.in_flight or each.queue) for each in limits)


@contextmanager
def benched(environ: dict[str, str]) -> Iterator[Bench]:
    """A bench with this configuration. A loop must run."""
    with open(os.devnull, "wb") as nowhere, ExitStack() as stack:  # noqa: PTH123 - a device
        writer = LineWriter(nowhere.fileno())
        yield Bench(build(load(environ), writer), stack)
        writer.close()

"""Active health checks: ask every endpoint now and then whether it is well, before a request has to find out.

An endpoint starts healthy; `unhealthy_threshold` failed checks in a row make it unhealthy, `healthy_threshold`
successful ones make it healthy again. A check succeeds when the head of a 2xx or 3xx response to `GET path` arrives
within `timeout`, over a connection of its own, so that accepting connections is part of what is checked. It is opened
and read as those of requests are: the same addresses, the same TLS, the same idea of what is HTTP. What this host lacks
(files, ports, memory) is no result: such a check speaks neither for the endpoint nor against it.

One task per endpoint. The first check comes at a random moment of the first interval, and every pause is up to a tenth
shorter or longer, so that neither endpoints nor replicas fall into step.

Left out on purpose: agreement between replicas (each knows best what it can reach itself), and looking at bodies.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.alarm import Within
from gateway.config.sections.upstreams.model import HealthCheckConfig
from gateway.proxy.upstreams.upstream import Upstream
from gateway.syntax import hosts
from gateway.wire.client.connect import SocketAddress, attempt_delay, connect
from gateway.wire.client.connection import ConnectionOwner, UpstreamConnection
from gateway.wire.client.fault import Fault, fault_of
from gateway.wire.client.lifetime import Closed
from gateway.wire.client.resolver import Resolver
from gateway.wire.client.response_sink import Loss, Nobody
from gateway.wire.message.response import Response

log = logging.getLogger("gateway.health_check")

_JITTER: Final = 0.1


class CheckedEndpoint(Protocol):
    """What a check needs to know of an endpoint, and tells it."""

    @property
    def host(self) -> str:
        """A name or an address."""
        ...

    @property
    def port(self) -> int:
        """The port to connect to."""
        ...

    @property
    def checked(self) -> bool:
        """False while an operator has disabled it: it keeps its last verdict, and nobody asks."""
        ...

    def set_healthy(self, healthy: bool) -> None:
        """Called on transitions only."""
        ...


@dataclass(frozen=True, slots=True)
class EndpointCheck:
    """One endpoint and how to ask it.

    `authority` is what `Host` says; None: the endpoint's own. `tls` and `server_name` are what requests to the upstream
    use, so that a certificate they would refuse is a failed check.
    """

    upstream: str
    config: HealthCheckConfig
    endpoint: CheckedEndpoint
    authority: str | None = None
    tls: ssl.SSLContext | None = None
    server_name: str | None = None

    @property
    def where(self) -> str:
        """The endpoint, in words for the log."""
        return f"endpoint {hosts.written(self.endpoint.host, self.endpoint.port)} of upstream {self.upstream}"


class Verdict:
    """Counts checks; healthy until proven otherwise. Pure."""

    __slots__ = ("_against", "_config", "healthy")

    def __init__(self, config: HealthCheckConfig) -> None:
        self._config = config
        self._against = 0  # results in a row that speak against `healthy`
        self.healthy = True

    def record(self, passed: bool) -> bool:
        """Whether the verdict changed with this result."""
        if passed == self.healthy:
            self._against = 0
            return False
        self._against += 1
        needed = self._config.unhealthy_threshold if self.healthy else self._config.healthy_threshold
        if self._against < needed:
            return False
        self.healthy = passed
        self._against = 0
        return True


class HealthChecker:
    """Runs the checks, a task for each, from `start` to `stop` on one event loop."""

    def __init__(
        self, checks: Iterable[EndpointCheck], rng: random.Random | None = None, resolver: Resolver | None = None
    ) -> None:
        self._checks = tuple(checks)
        self._rng = rng or random.Random()
        self._resolver = resolver or Resolver()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin checking, on the running loop. Without checks nothing is opened."""
        if not self._tasks:
            self._tasks = [asyncio.create_task(self._watch(check)) for check in self._checks]

    async def stop(self) -> None:
        """Stop checking; endpoints keep the last verdict."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []

    async def _watch(self, check: EndpointCheck) -> None:
        interval = check.config.interval
        verdict = Verdict(check.config)
        unable = False
        await asyncio.sleep(interval * self._rng.random())
        while True:
            if check.endpoint.checked:
                try:
                    unable = await self._check(check, verdict, unable)
                except Exception:
                    # A defect of the gateway says nothing of the endpoint, and must not end its checks.
                    if not unable:
                        log.exception("the check of %s failed", check.where)
                    unable = True
            await asyncio.sleep(interval * self._rng.uniform(1.0 - _JITTER, 1.0 + _JITTER))

    async def _check(self, check: EndpointCheck, verdict: Verdict, unable: bool) -> bool:
        """One check. Whether it could not be made; `unable` says the same of the one before."""
        where = check.where
        try:
            complaint = await _complaint(check, self._resolver)
        except _Unable as error:
            if not unable:
                log.warning("%s cannot be checked from here: %s", where, error)
            return True
        if check.endpoint.checked and verdict.record(complaint is None):
            check.endpoint.set_healthy(verdict.healthy)
            if verdict.healthy:
                log.info("%s is healthy again", where)
            else:
                log.warning("%s is unhealthy: %s", where, complaint)
        return False


class _Unable(Exception):
    """The check could not be made, for a fault of this host."""


async def _complaint(check: EndpointCheck, resolver: Resolver) -> str | None:
    """What is wrong with the endpoint, in words for the log; None if it is well. Raises _Unable."""
    config = check.config
    try:
        async with Within(config.timeout):
            answer = await _ask(check, resolver)
    except TimeoutError:
        return f"no answer within {config.timeout:g} s"
    except (OSError, MemoryError) as error:
        if fault_of(error) is Fault.LOCAL:
            raise _Unable(str(error) or type(error).__name__) from error
        return str(error) or type(error).__name__
    if isinstance(answer, str):
        return answer
    return None if 200 <= answer < 400 else f"status {answer}"


async def _ask(check: EndpointCheck, resolver: Resolver) -> int | str:
    """The status of the answer, or why there is none. Raises OSError when no connection comes about."""
    endpoint = check.endpoint
    tls = check.tls
    addresses = await resolver.resolve(endpoint.host, endpoint.port)
    connection = await connect(
        addresses,
        _connection,
        delay=attempt_delay(len(addresses), check.config.timeout),
        tls=tls,
        server_name=(check.server_name or endpoint.host) if tls is not None else None,
        note=resolver.note,
    )
    authority = check.authority or hosts.written(endpoint.host, endpoint.port)
    head = (
        f"GET {check.config.path} HTTP/1.1\r\nHost: {authority}\r\n"
        "User-Agent: gateway-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    )
    answer = _Answer(asyncio.get_running_loop().create_future())
    try:
        if connection.closed:
            return "the connection closed at once"
        connection.send(answer, head.encode(), to_head=False, more=False)
        return await answer.status
    finally:
        connection.abort()


class _NoPool(ConnectionOwner):
    """Nobody keeps the connection of a check."""

    def release(self, connection: UpstreamConnection) -> None:
        connection.close()

    def forget(self, connection: UpstreamConnection) -> None:
        pass

    def retired(self, cause: Closed) -> None:
        pass


_NO_POOL: Final = _NoPool()


def _connection(address: SocketAddress) -> UpstreamConnection:
    return UpstreamConnection(_NO_POOL, address[0])


class _Answer(Nobody):
    """Waits for the head of an answer; what follows is not wanted."""

    def __init__(self, status: "asyncio.Future[int | str]") -> None:
        self.status = status

    def _tell(self, what: int | str) -> None:
        if not self.status.done():
            self.status.set_result(what)

    def response_head(self, response: Response) -> None:
        self._tell(response.status)

    def response_whole(self, response: Response, body: bytes) -> None:
        self._tell(response.status)

    def switched(self, response: Response, early: bytes) -> None:
        self._tell(response.status)

    def upstream_lost(self, loss: Loss, detail: str) -> None:
        self._tell(detail)


def checks_of(upstreams: Iterable[Upstream]) -> Iterator[EndpointCheck]:
    """The checks of every endpoint whose upstream has one."""
    for upstream in upstreams:
        config = upstream.config
        if config.health_check is not None:
            for endpoint in upstream.endpoints:
                yield EndpointCheck(
                    upstream.name,
                    config.health_check,
                    endpoint,
                    authority=config.authority,
                    tls=upstream.tls,
                    server_name=config.tls.server_name if config.tls is not None else None,
                )

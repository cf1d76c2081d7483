"""Active health checks: ask every endpoint now and then whether it is well, before a request has to find out.

An endpoint starts healthy; `unhealthy_threshold` failed checks in a row make it unhealthy, `healthy_threshold`
successful ones make it healthy again. A check succeeds when the head of a 2xx or 3xx response to `GET path` arrives
within `timeout`, over a connection of its own, so that accepting connections is part of what is checked.

One task per endpoint. The first check comes at a random moment of the first interval, and every pause is up to a tenth
shorter or longer, so that neither endpoints nor replicas fall into step.

Left out on purpose: agreement between replicas (each knows best what it can reach itself), and looking at bodies.
"""

import asyncio
import logging
import random
import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp
from yarl import URL

from gateway.config.model import HealthCheckConfig

log = logging.getLogger("gateway.health_check")

_JITTER: Final = 0.1


class CheckedEndpoint(Protocol):
    @property
    def host(self) -> str: ...

    @property
    def port(self) -> int: ...

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
    def __init__(self, checks: Iterable[EndpointCheck], rng: random.Random | None = None) -> None:
        self._checks = tuple(checks)
        self._rng = rng or random.Random()
        self._session: aiohttp.ClientSession | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin checking, on the running loop. Without checks nothing is opened."""
        if not self._checks or self._session is not None:
            return
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, force_close=True, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "gateway-health-check"},
        )
        self._tasks = [asyncio.create_task(self._watch(self._session, check)) for check in self._checks]

    async def stop(self) -> None:
        """Stop checking; endpoints keep the last verdict."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks = []
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def _watch(self, session: aiohttp.ClientSession, check: EndpointCheck) -> None:
        interval = check.config.interval
        verdict = Verdict(check.config)
        await asyncio.sleep(interval * self._rng.random())
        while True:
            complaint = await _complaint(session, check) if check.endpoint.checked else None
            if check.endpoint.checked and verdict.record(complaint is None):
                check.endpoint.set_healthy(verdict.healthy)
                where = f"{check.endpoint.host}:{check.endpoint.port}"
                if verdict.healthy:
                    log.info("endpoint %s of upstream %s is healthy again", where, check.upstream)
                else:
                    log.warning("endpoint %s of upstream %s is unhealthy: %s", where, check.upstream, complaint)
            await asyncio.sleep(interval * self._rng.uniform(1.0 - _JITTER, 1.0 + _JITTER))


async def _complaint(session: aiohttp.ClientSession, check: EndpointCheck) -> str | None:
    """What is wrong with the endpoint, in words for the log; None if it is well."""
    endpoint = check.endpoint
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    url = URL(f"{'http' if check.tls is None else 'https'}://{host}:{endpoint.port}{check.config.path}", encoded=True)
    try:
        async with (
            asyncio.timeout(check.config.timeout),
            session.get(
                url,
                allow_redirects=False,
                ssl=check.tls if check.tls is not None else True,
                server_hostname=check.server_name if check.tls is not None else None,
                headers={"Host": check.authority} if check.authority is not None else None,
                timeout=aiohttp.ClientTimeout(total=None),
            ) as response,
        ):
            return None if 200 <= response.status < 400 else f"status {response.status}"
    except TimeoutError:
        return f"no answer within {check.config.timeout:g} s"
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return str(error) or type(error).__name__

"""What makes an aiohttp application a service of the shop: health, metrics, errors as JSON, correlation ids, running.

Each service has a function `make`, which puts its parts together. `run` gives it the settings, and serves until SIGTERM
or SIGINT; requests in flight are finished then.
"""

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextvars import ContextVar

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from shop.common import idempotency
from shop.common.answers import Refused, problem
from shop.common.connect import connect
from shop.common.database import Database, Unavailable
from shop.common.ids import new_id
from shop.common.settings import Settings

log = logging.getLogger("shop")

# Of the request that is being served, or of the order that is being worked on.
correlation: ContextVar[str] = ContextVar("correlation", default="-")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
SHUTDOWN_SECONDS = 5.0
CLEANUP_SECONDS = 3600.0


class Service:
    """An application, its database and its metrics, to which a service adds its routes and background tasks."""

    def __init__(self, settings: Settings, database: Database) -> None:
        self.settings = settings
        self.database = database
        self.registry = CollectorRegistry()
        self.conflicts = Counter(
            "idempotency_conflicts", "Requests whose Idempotency-Key is in use.", registry=self.registry
        )
        self.app = web.Application(middlewares=[self._answer])
        self.app.router.add_get("/health", self._health)
        self.app.router.add_get("/metrics", self._metrics)
        self._before_metrics: list[Callable[[], Awaitable[None]]] = []

    def gauge(self, name: str, meaning: str, value: Callable[[], Awaitable[float]]) -> None:
        """A gauge that is looked up whenever somebody reads the metrics. While the database is away it keeps the value
        that it had."""
        gauge = Gauge(name, meaning, registry=self.registry)

        async def refresh() -> None:
            gauge.set(await value())

        self._before_metrics.append(refresh)

    def counter(self, name: str, meaning: str, labels: Sequence[str] = ()) -> Counter:
        """A counter of this process; its series is called `{name}_total`."""
        return Counter(name, meaning, labels, registry=self.registry)

    def in_background(self, task: Callable[[], Awaitable[None]]) -> None:
        """Runs from the start of the service to its end, where it is cancelled."""

        async def lifetime(_: web.Application) -> AsyncIterator[None]:
            running = asyncio.ensure_future(task())
            running.add_done_callback(_ended_early)
            yield
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

        self.app.cleanup_ctx.append(lifetime)

    async def _health(self, _: web.Request) -> web.Response:
        """200 while the database answers a query."""
        await self.database.fetch("SELECT 1 AS one")
        return web.json_response({"status": "healthy", "service": self.settings.name})

    async def _metrics(self, _: web.Request) -> web.Response:
        for refresh in self._before_metrics:
            try:
                await refresh()
            except Unavailable as error:
                log.warning("metrics: the database is away: %s", error)
        return web.Response(body=generate_latest(self.registry), content_type="text/plain", charset="utf-8")

    @web.middleware
    async def _answer(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Every error is an answer with a reason; only a defect is a 500, with its stack in the log."""
        correlation.set(request.headers.get("X-Correlation-ID") or new_id("request"))
        try:
            return await handler(request)
        except Refused as refused:
            if refused.answer.body["reason"] == "idempotency_key_reused":
                self.conflicts.inc()
            return _problem_response(refused)
        except Unavailable as error:
            log.warning("%s %s: the database is away: %s", request.method, request.path, error)
            return _problem_response(Refused(503, "database_unavailable", str(error), retry_after=1))
        except web.HTTPException as error:
            reason = (error.reason or "error").lower().replace(" ", "_")
            return _problem_response(Refused(error.status, reason, f"{request.method} {request.path}: {error.reason}"))
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            return problem(500, "internal_error", "the service failed; its log says how").response()


async def open_service(settings: Settings, schema: Sequence[str]) -> Service:
    """A service whose database is open and has its tables. Idempotency keys that have expired are forgotten every
    hour."""
    database = await connect(settings.database_url)
    await _create(database, [*schema, idempotency.SCHEMA])
    service = Service(settings, database)

    async def close(_: web.Application) -> None:
        await database.close()

    async def forget() -> None:
        while True:
            try:
                await idempotency.forget_expired(database)
            except Unavailable as error:
                log.warning("expired idempotency keys: the database is away: %s", error)
            await asyncio.sleep(CLEANUP_SECONDS)

    service.app.on_cleanup.append(close)
    service.in_background(forget)
    return service


def run(name: str, port: int, make: Callable[[Settings], Awaitable[Service]]) -> int:
    """Serve until a signal; the exit status."""
    output = logging.StreamHandler(sys.stdout)
    output.addFilter(_WithCorrelation())
    line = f"%(asctime)s {name} %(levelname)s %(message)s correlation_id=%(correlation)s"
    logging.basicConfig(handlers=[output], level=logging.INFO, format=line)
    try:
        settings = Settings.of(name, port)
    except ValueError as error:
        sys.stderr.write(f"{name}: {error}\n")
        return 1

    async def app() -> web.Application:
        return (await make(settings)).app

    host, port = settings.host, settings.port
    try:
        web.run_app(app(), host=host, port=port, access_log=None, print=None, shutdown_timeout=SHUTDOWN_SECONDS)
    except (OSError, ValueError, Unavailable) as error:
        sys.stderr.write(f"{name}: cannot serve on {host} port {port}: {error}\n")
        return 1
    return 0


async def _create(database: Database, schema: Sequence[str]) -> None:
    """A database that starts at the same time, as in Compose, is waited for."""
    for attempt in range(30):
        try:
            await database.create(schema)
        except Unavailable as error:
            if attempt == 29:
                raise
            log.warning("waiting for the database: %s", error)
            await asyncio.sleep(1.0)
        else:
            return


def _problem_response(refused: Refused) -> web.Response:
    response = refused.answer.response()
    if refused.retry_after is not None:
        response.headers["Retry-After"] = str(refused.retry_after)
    return response


def _ended_early(task: "asyncio.Future[None]") -> None:
    """A background task catches what it expects. What it does not expect ends the process, and whoever watches it
    starts another one: better than a service that has stopped doing half of its work."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.critical("a background task has failed", exc_info=error)
        raise SystemExit(1) from error


class _WithCorrelation(logging.Filter):
    """Gives each line the id with which the requests of all services can be found that belong to one order."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.correlation = correlation.get()
        return True

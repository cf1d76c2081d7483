"""Puts the stub together: which path is which endpoint, and the server around them."""

import asyncio

from aiohttp import web

from upstream_stub import endpoints, faults
from upstream_stub.faults import Outages
from upstream_stub.listener import Listener
from upstream_stub.stats import Endpoint, Stats

# Larger than what the gateway lets through by default, so that its limits can be tried and not those of the stub.
MAX_LINE_BYTES = 256 * 1024
SHUTDOWN_TIMEOUT = 0.5

ENDPOINTS: dict[str, Endpoint] = {
    "/ok": endpoints.ok,
    "/fail": endpoints.fail,
    "/slow": endpoints.slow,
    "/flaky": endpoints.flaky,
    "/status/{code}": endpoints.status_code,
    "/echo": endpoints.echo,
    "/echo/{rest:.*}": endpoints.echo,
    "/stream": endpoints.stream,
    "/bytes/{n}": endpoints.octets,
    "/sse": endpoints.events,
}

FAULTS: dict[str, Endpoint] = {
    "/fault/reset": faults.reset_before_head,
    "/fault/close": faults.close_before_head,
    "/fault/reset-body": faults.reset_mid_body,
    "/fault/close-body": faults.close_mid_body,
    "/fault/stall": faults.stall,
    "/fault/stall-body": faults.stall_mid_body,
    "/fault/garbage": faults.garbage,
    "/fault/wrong-length": faults.wrong_length,
    "/fault/trickle": faults.trickle,
    "/fault/early": faults.early,
    "/fault/informational": faults.informational,
    "/fault/trailers": faults.trailers,
}


async def no_continue(_: web.Request) -> None:
    """Does not answer `Expect: 100-continue`, so that a fault sends nothing but itself."""


class Stub:
    """A stub that can be started once and stopped once. `failed` gets the error when it cannot listen again."""

    def __init__(self, host: str, port: int) -> None:
        stats = Stats()
        self._runner = web.AppRunner(
            web.Application(),
            access_log=None,
            auto_decompress=False,
            handle_signals=False,
            handler_cancellation=True,
            keepalive_timeout=300.0,
            lingering_time=60.0,
            max_field_size=MAX_LINE_BYTES,
            max_line_size=MAX_LINE_BYTES,
            shutdown_timeout=SHUTDOWN_TIMEOUT,
        )
        self._listener = Listener(self._runner, stats, host, port)
        self.failed: asyncio.Future[OSError] = asyncio.get_running_loop().create_future()
        self._listener.on_lost = self.failed.set_result
        self._add_routes(stats)

    @property
    def port(self) -> int:
        """The port that the stub listens on; where 0 was asked for, the one that the kernel has chosen."""
        return self._listener.port

    async def start(self) -> None:
        """Listen; OSError when that is impossible."""
        await self._runner.setup()
        try:
            await self._listener.open()
        except OSError:
            await self._runner.cleanup()
            raise

    async def stop(self) -> None:
        """Stop listening, cancel exchanges after `SHUTDOWN_TIMEOUT`, cut off what is left as long after."""
        self._listener.close()
        await self._runner.cleanup()

    def _add_routes(self, stats: Stats) -> None:
        app = self._runner.app
        add = app.router.add_route
        outages = Outages(self._listener)
        sockets = endpoints.Sockets()
        app.on_shutdown.append(sockets.say_goodbye)

        async def show_stats(_: web.Request) -> web.Response:
            return web.json_response(stats.as_dict())

        async def reset_stats(_: web.Request) -> web.Response:
            stats.reset()
            return web.json_response(stats.as_dict())

        add("GET", "/stats", show_stats)
        add("DELETE", "/stats", reset_stats)
        for path, endpoint in ENDPOINTS.items():
            add("*", path, stats.counted(endpoint))
        add("GET", "/ws", stats.counted(sockets.echo))
        add("*", "/health", stats.counted(outages.health))
        for path, fault in {**FAULTS, "/fault/refuse": outages.refuse, "/fault/unhealthy": outages.unhealthy}.items():
            add("*", path, stats.counted(fault), expect_handler=no_continue)
        add("*", "/{rest:.*}", stats.counted(endpoints.not_found))

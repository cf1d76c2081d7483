"""What hedges do to the slowest answers, and to the load of the upstream.

    python -m benchmarks.hedging                  # a quarter of a minute for each line
    python -m benchmarks.hedging --seconds 60 --slow 0.01

A whole gateway, an upstream with two endpoints and its clients run in this process, on the loopback. An endpoint
answers within 5 to 15 ms, but a small part of the requests takes half a second there, at random: a garbage collection,
a busy disk. In the second half of the table every answer takes ten times as long from one moment on, as of an upstream
that has too much to do; what hedges add to its load is then bounded by the retry budget.

The clients ask and pause in turn, so that there is no queue; the times are theirs. A few seconds before the measurement
have the gateway learn how long answers take.
"""

import argparse
import asyncio
import os
import random
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop

from benchmarks.host import free_port
from benchmarks.one_process import serving
from gateway.compiled import HOW

_ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok"
_CLIENTS: Final = 24
_PAUSE: Final = 0.1
_WARM_UP: Final = 5.0
_STALL: Final = 0.5
_LEAST, _MOST = 0.005, 0.015


@dataclass
class Upstream:
    """Both endpoints. `scale` is by how much every answer is slower; `asked` counts requests."""

    slow: float
    scale: float = 1.0
    asked: int = 0
    rng: random.Random = field(default_factory=lambda: random.Random(1))

    def seconds(self) -> float:
        """How long the next answer takes."""
        self.asked += 1
        usual = self.rng.uniform(_LEAST, _MOST)
        return self.scale * (_STALL if self.rng.random() < self.slow else usual)


class Endpoint(asyncio.Protocol):
    """One connection of the gateway to an endpoint."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are not asyncio's by descent.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        asyncio.get_running_loop().call_later(self._upstream.seconds(), self._answer)

    def _answer(self) -> None:
        if not self._transport.is_closing():
            self._transport.write(_ANSWER)


@dataclass
class Line:
    """What a setting came to: the seconds of each answer, and how often the upstream was asked for them."""

    name: str
    seconds: list[float]
    asked: int
    bad: int

    def text(self) -> str:
        """As a row of a table."""
        times = sorted(self.seconds)
        shown = [
            f"{1000 * times[min(len(times) - 1, int(part * len(times)))]:7.1f}" for part in (0.5, 0.95, 0.99, 0.999)
        ]
        extra = 100 * (self.asked / len(times) - 1)
        return f"{self.name:28}{len(times):8}{self.bad:6}  {'  '.join(shown)}  {extra:+8.1f} %"


async def _client(port: int, until: float, line: Line, rng: random.Random) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.monotonic() < until:
            await asyncio.sleep(rng.expovariate(1.0 / _PAUSE))
            began = time.monotonic()
            writer.write(b"GET /proxy/a HTTP/1.1\r\nHost: a\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(each for each in head.split(b"\r\n") if each.lower().startswith(b"content-length:"))
            await reader.readexactly(int(length.split(b":")[1]))
            line.seconds.append(time.monotonic() - began)
            line.bad += b" 200 " not in head.split(b"\r\n")[0]
    finally:
        writer.close()


async def _clients(port: int, seconds: float, name: str) -> Line:
    line = Line(name, [], 0, 0)
    until = time.monotonic() + seconds
    await asyncio.gather(*(_client(port, until, line, random.Random(number)) for number in range(_CLIENTS)))
    return line


async def _measured(name: str, hedge: Mapping[str, str], upstream: Upstream, seconds: float, scale: float) -> Line:
    loop = asyncio.get_running_loop()
    servers = [await loop.create_server(lambda: Endpoint(upstream), "127.0.0.1", 0) for _ in range(2)]
    ports = [server.sockets[0].getsockname()[1] for server in servers]
    port = free_port()
    settings = {
        "PORT": str(port),
        "UPSTREAM_URL": ",".join(f"http://127.0.0.1:{each}" for each in ports),
        "RATE_LIMIT_ENABLED": "false",
        "ACCESS_LOG": "false",
        **hedge,
    }
    async with serving(settings):
        await _clients(port, _WARM_UP, name)
        upstream.scale, upstream.asked = scale, 0
        line = await _clients(port, seconds, name)
    line.asked = upstream.asked
    for server in servers:
        server.close()
    return line


async def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="for each line")
    parser.add_argument("--slow", type=float, default=0.02, help="the part of the answers that take half a second")
    given = parser.parse_args()
    print(f"{HOW}, {len(os.sched_getaffinity(0))} cores, {100 * given.slow:g} % of the answers take {_STALL:g} s")
    print(f"{'':28}{'answers':>8}{'bad':>6}  {'p50':>7}  {'p95':>7}  {'p99':>7}  {'p99.9':>7}  more asked")
    for scale in (1.0, 10.0):
        for after in ("off", "p95", "p90", "30ms"):
            name = f"{'off' if after == 'off' else f'after: {after}'}{'' if scale == 1.0 else ', 10 times slower'}"
            line = await _measured(name, {"HEDGE_AFTER": after}, Upstream(given.slow), given.seconds, scale)
            print(line.text())


if __name__ == "__main__":
    uvloop.run(_main())

"""How many machine instructions a request costs, counted by Valgrind's callgrind: they do not depend on what else the
machine does, so that two versions can be compared while others work on it.

    python -m benchmarks.instructions                     # every case
    python -m benchmarks.instructions --only hot,cold
    python -m benchmarks.instructions --sources DIR       # of the package `gateway` in DIR instead of the installed one
    python -m benchmarks.instructions --keep DIR          # keeps each profile, for callgrind_annotate

Needs Linux, `valgrind` and `redis-server`. A whole gateway runs in one process under Valgrind, fifty times as slowly as
usual, behind clients and before an upstream that are outside. What it does by itself in the same time (it tells Redis
of its circuits, and so on) is measured before and taken off. Counted is the user's part alone: what the kernel does
for the sockets, some half of a request's time, is not in it. Because all is slow, requests come closer together for
Redis than they do in fact, and calls to it are shared by fewer: `cold` and `unseen` say too much rather than too
little.
"""

import argparse
import asyncio
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Mapping
from pathlib import Path
from typing import cast

from benchmarks.host import free_port, is_listening
from benchmarks.peers.gateway import DEFAULTS
from benchmarks.rig import OK_BODY, program_environment
from benchmarks.sink import Sink
from gateway.compiled import HOW

_CLIENTS = 2_048
_WARM = 64
_IDLE = 3.0
_SLOW = {"REDIS_TIMEOUT": "2", "REDIS_TIMEOUT_MAX": "5"}
_TOTAL = re.compile(r"([\d,]+) \(100\.0%\)  PROGRAM TOTALS")
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"

CASES: dict[str, tuple[str, Mapping[str, str]]] = {
    "hot": ("one client that repeats its head", {}),
    "new": ("one client, each head a new one", {}),
    "cold": (f"{_CLIENTS:,} clients in turn, each with one head", {"TRUSTED_PROXIES": "127.0.0.0/8"}),
    "unseen": (f"{_CLIENTS:,} clients in turn, each head a new one", {"TRUSTED_PROXIES": "127.0.0.0/8"}),
    "hooked": ("one client that repeats its head, a Python hook that has nothing to say", {}),
    "429": ("out of tokens", {"RATE_LIMIT_CAPACITY": "1", "RATE_LIMIT_REFILL_RATE": "0.001"}),
    "traced": (
        "one client that repeats its head, traces of 1 %",
        {"OTEL_TRACES_SAMPLER_ARG": "0.01", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "64"},
    ),
    "all": ("one client that repeats its head, traces of all", {"OTEL_TRACES_SAMPLER_ARG": "1"}),
    "open": (
        "the circuit is open",
        {"RETRY_MAX_ATTEMPTS": "1", "CIRCUIT_BREAKER_RESET_TIMEOUT_SECONDS": "3600"},
    ),
}


_MANY = ("cold", "unseen")
_TRACED = ("traced", "all")
_HOOK = "class Nods:\n    def on_request(self, head):\n        return None\n"
_HOOKED = """
routes:
  - {name: proxy, prefix: /proxy/, upstream: default, strip_prefix: true, websocket: true, hooks: ["nods:Nods"]}
"""
# Under Valgrind every request is a slow one, which would be kept for that, and what is sent every five seconds would be
# sent much too often: only full batches are sent.
_COLLECTED = {
    "OTEL_BSP_SCHEDULE_DELAY": "60000",
    "OTEL_BSP_MAX_QUEUE_SIZE": "20000",
    "OTEL_EXPORTER_OTLP_TIMEOUT": "60000",
    "TRACE_SLOW_SECONDS": "0",
}


class Upstream(asyncio.Protocol):
    """Answers every request that has no body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER % (len(OK_BODY), OK_BODY.encode()))


def _head(case: str, number: int) -> bytes:
    own = b""
    if case in ("new", "unseen"):
        own = b"X-New: %d\r\n" % number
    if case in _MANY:
        client = number * 7 % _CLIENTS
        own += b"X-Forwarded-For: 10.0.%d.%d\r\n" % (client // 256, client % 256)
    return b"GET /proxy/ok HTTP/1.1\r\nHost: 127.0.0.1:5000\r\n%b\r\n" % own


async def _client(port: int, case: str, numbers: range) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in numbers:
        writer.write(_head(case, number))
        head = await reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        await reader.readexactly(int(length[1]) if length else 0)
    writer.close()


async def _clients(port: int, case: str, connections: int, each: int, first: int = 0) -> None:
    ranges = [range(first + number * each, first + (number + 1) * each) for number in range(connections)]
    await asyncio.gather(*[_client(port, case, numbers) for numbers in ranges])


@contextlib.asynccontextmanager
async def _child(*command: str, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    null = asyncio.subprocess.DEVNULL
    child = await asyncio.create_subprocess_exec(*command, stdout=null, stderr=null, env=environment or None)
    try:
        yield child
    finally:
        child.kill()
        await child.wait()


async def _listening(port: int) -> None:
    async with asyncio.timeout(180.0):
        while not await asyncio.to_thread(is_listening, port):  # noqa: ASYNC110 - nothing tells of it
            await asyncio.sleep(0.2)


def _control(*what: str) -> None:
    subprocess.run(["callgrind_control", *what], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def count(case: str, requests: int, connections: int, environment: Mapping[str, str], profile: Path) -> float:
    """Instructions for each request. `environment` is that of the gateway."""
    redis, port = free_port(), free_port()
    loop = asyncio.get_running_loop()
    upstream = await loop.create_server(Upstream, "127.0.0.1", 0)
    collector = await loop.create_server(Sink, "127.0.0.1", 0)
    target = free_port() if case == "open" else upstream.sockets[0].getsockname()[1]
    settings = {
        **DEFAULTS,
        **_SLOW,
        "PORT": str(port),
        "UPSTREAM_URL": f"http://127.0.0.1:{target}",
        "REDIS_URL": f"redis://127.0.0.1:{redis}/0",
        **CASES[case][1],
    }
    if case in _TRACED:
        at = collector.sockets[0].getsockname()[1]
        settings |= {**_COLLECTED, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{at}"}
    if case == "hooked":
        (profile.parent / "nods.py").write_text(_HOOK)
        (profile.parent / "hooked.yaml").write_text(_HOOKED)
        settings |= {"GATEWAY_CONFIG": str(profile.parent / "hooked.yaml"), "HOOKS_DIR": str(profile.parent)}
    del settings["HOST"]  # Valgrind names a file after it
    valgrind = ("valgrind", "--tool=callgrind", "--fair-sched=yes", "--instr-atstart=no")
    command = (*valgrind, f"--callgrind-out-file={profile}", sys.executable, "-m", "benchmarks.one_process")
    each = requests // connections
    async with (
        upstream,
        collector,
        _child("redis-server", "--port", str(redis), "--bind", "127.0.0.1", "--save", ""),
        _child(*command, **environment, **settings, PYTHONHASHSEED="0") as gateway,
    ):
        await _listening(port)
        # A head is kept from its second time on.
        warm = 2 * _CLIENTS // connections if case in _MANY else _WARM
        await _clients(port, case, connections, warm)
        idle, idle_seconds = await _counted(gateway.pid, f"{profile}.1", asyncio.sleep(_IDLE))
        work = _clients(port, case, connections, each, first=warm * connections)
        busy, busy_seconds = await _counted(gateway.pid, f"{profile}.2", work)
    return (busy - idle / idle_seconds * busy_seconds) / (each * connections)


async def _counted(pid: int, dump: str, work: Awaitable[object]) -> tuple[int, float]:
    """The instructions of a process while `work` goes on, and the seconds that it took. `dump` is the name of the next
    dump."""
    started = time.monotonic()
    await asyncio.to_thread(_control, "--instr=on", str(pid))
    await work
    await asyncio.to_thread(_control, "--instr=off", str(pid))
    seconds = time.monotonic() - started
    await asyncio.to_thread(_control, "--dump", str(pid))
    # The summary of a dump is 0 where instrumentation began late; the sum over all functions is right.
    done = await asyncio.to_thread(
        subprocess.run, ["callgrind_annotate", dump], capture_output=True, text=True, check=True
    )
    total = _TOTAL.search(done.stdout)
    if total is None:
        raise RuntimeError(f"callgrind_annotate has no total of {dump}")
    return int(total[1].replace(",", "")), seconds


def main() -> int:
    """Print one line for each case."""
    parser = argparse.ArgumentParser(prog="instructions", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(CASES), help="a comma list of cases")
    parser.add_argument("--requests", type=int, default=3_200)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--sources", type=Path, help="a directory with another package `gateway`")
    parser.add_argument("--keep", type=Path, help="where profiles are left")
    arguments = parser.parse_args()
    for program in ("valgrind", "redis-server"):
        if shutil.which(program) is None:
            parser.error(f"{program} is not installed: apt-get install {program}")
    environment = program_environment()
    if arguments.sources is not None:
        environment["PYTHONPATH"] = f"{arguments.sources.resolve()}{os.pathsep}{environment['PYTHONPATH']}"
    print(f"instructions for each request, the gateway {arguments.sources or HOW}")
    with tempfile.TemporaryDirectory() as directory:
        kept = arguments.keep or Path(directory)
        kept.mkdir(parents=True, exist_ok=True)
        for case in arguments.only.split(","):
            profile = kept / f"callgrind.{case}"
            found = asyncio.run(count(case, arguments.requests, arguments.connections, environment, profile))
            print(f"{case:6} {found:10,.0f}   {CASES[case][0]}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How far a reader has to walk to follow one GET: calls, files, and changes from one file to another.

    python -m benchmarks.trace                   # the counts, for a new head and for a repeated one
    python -m benchmarks.trace --calls           # every call, in order
    python -m benchmarks.trace --instructions    # the bytecode instructions instead
    python -m benchmarks.trace --set ADAPTIVE_LIMIT_MODE=enforce

A whole gateway runs in this process, in front of an upstream on the loopback; a client on another thread sends the same
request again and again over one connection. Counted are the calls of Python functions of the package `gateway` on the
event loop's thread, from the arrival of the request to the end of its answer (`sys.setprofile`), or the bytecode
instructions of these functions (`sys.settrace`). Requests come before those that are counted until only one of 16 is
looked at for the busiest clients (`gateway.telemetry.busiest`), as in every gateway with traffic. Compiled functions
show neither: where `make build` has been, set PYTHONPATH to the checkout, and its sources are traced. What the loop
does in between, such as timers, is in it when it happens; the least of several requests is shown.
"""

import argparse
import asyncio
import os
import socket
import sys
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Any, cast

import uvloop

import gateway
from benchmarks.host import free_port
from benchmarks.one_process import serving
from gateway.compiled import COMPILED
from gateway.telemetry.busiest import EXACTLY

_PACKAGE = str(Path(gateway.__file__).parent) + os.sep
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_REQUESTS = 12
_BEFORE = EXACTLY + 8

Step = Callable[[FrameType, str, object], Any]


class Trace:
    """The calls of one request, as (file, function)."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []
        self.instructions = 0

    def step(self, frame: FrameType, event: str, _argument: object) -> "Step | None":
        """For `sys.settrace`."""
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "opcode":
            self.instructions += 1
        return self.step

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        """For `sys.setprofile`."""
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(_PACKAGE) and code.co_name != "<genexpr>":
            self.calls.append((code.co_filename[len(_PACKAGE) :], code.co_name))

    @property
    def figures(self) -> tuple[int, int, int]:
        """Calls, files, changes of file."""
        files = [file for file, _ in self.calls]
        changes = sum(one != other for one, other in pairwise(files))
        return len(files), len(set(files)), changes


class Upstream(asyncio.Protocol):
    """Answers every GET with two bytes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._transport.write(_ANSWER)


async def _profile(trace: Trace | None, *, instructions: bool) -> None:
    """Begin a trace on the loop's thread, or end it."""
    if instructions:
        sys.settrace(None if trace is None else trace.step)
    else:
        sys.setprofile(None if trace is None else trace.note)


def _ask(
    port: int, heads: list[bytes], loop: asyncio.AbstractEventLoop, traces: list[Trace], *, instructions: bool
) -> None:
    """Send the requests, one after the other, each under a trace of its own."""
    with socket.create_connection(("127.0.0.1", port), timeout=5.0) as client:
        for head in heads:
            trace = Trace()
            asyncio.run_coroutine_threadsafe(_profile(trace, instructions=instructions), loop).result()
            client.sendall(head)
            answer = b""
            while not answer.endswith(b"{}"):
                answer += client.recv(65_536)
            asyncio.run_coroutine_threadsafe(_profile(None, instructions=instructions), loop).result()
            traces.append(trace)


async def _run(heads: list[bytes], more: Mapping[str, str], *, instructions: bool) -> list[Trace]:
    """One trace for each request. `more` are settings of the gateway."""
    loop = asyncio.get_running_loop()
    upstream = await loop.create_server(Upstream, "127.0.0.1", 0)
    port = free_port()
    settings = {
        "PORT": str(port),
        "UPSTREAM_URL": f"http://127.0.0.1:{upstream.sockets[0].getsockname()[1]}",
        "RATE_LIMIT_CAPACITY": "100000",
        **more,
    }
    traces: list[Trace] = []
    async with serving(settings):
        await asyncio.to_thread(_ask, port, heads, loop, traces, instructions=instructions)
    upstream.close()
    return traces


def main() -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", action="store_true", help="print every call, in order")
    parser.add_argument("--instructions", action="store_true", help="count bytecode instructions instead of calls")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the gateway")
    arguments = parser.parse_args()
    more = dict(each.partition("=")[::2] for each in arguments.set)
    if COMPILED:
        parser.error("the gateway is compiled, and its calls cannot be seen: set PYTHONPATH to the checkout")
    new = [b"GET /proxy/%d HTTP/1.1\r\nHost: a\r\nX-New: %d\r\n\r\n" % (n, n) for n in range(_REQUESTS)]
    ok = b"GET /proxy/ok HTTP/1.1\r\nHost: a\r\n\r\n"
    repeated = [ok] * _REQUESTS
    traces = uvloop.run(_run([*[ok] * _BEFORE, *new, *repeated], more, instructions=arguments.instructions))[_BEFORE:]
    for title, found in (("new head", traces[2:_REQUESTS]), ("repeated head", traces[_REQUESTS + 2 :])):
        if arguments.instructions:
            print(f"{title:14} {min(trace.instructions for trace in found)} instructions")
            continue
        least = min(found, key=lambda trace: trace.figures)
        calls, files, changes = least.figures
        print(f"{title:14} {calls} calls, {files} files, {changes} changes of file")
        if arguments.calls:
            for file, function in least.calls:
                print(f"    {file:44} {function}")


if __name__ == "__main__":
    main()

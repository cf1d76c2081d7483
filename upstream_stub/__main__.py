"""`python -m upstream_stub`: runs the stub until SIGTERM or SIGINT.

`HOST` (127.0.0.1; 0.0.0.0 in a container) and `PORT` (5001; 0 takes a free one) come from the environment. Exit status
0 after a signal, 1 with one line on stderr when the stub cannot listen.
"""

import asyncio
import os
import signal
import sys

import uvloop

from upstream_stub.app import Stub


def settings() -> tuple[str, int]:
    """Host and port; ValueError with a message for the user."""
    host = os.environ.get("HOST") or "127.0.0.1"
    port = os.environ.get("PORT") or "5001"
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        raise ValueError(f"PORT must be a whole number from 0 to 65535, not {port!r}")
    return host, int(port)


async def serve(host: str, port: int) -> None:
    """Run until a signal; OSError when the stub cannot listen, now or after a refusal."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    stub = Stub(host, port)
    await stub.start()
    sys.stdout.write(f"upstream stub on http://{f'[{host}]' if ':' in host else host}:{stub.port}\n")
    sys.stdout.flush()
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait((stopped, stub.failed), return_when=asyncio.FIRST_COMPLETED)
    await stub.stop()
    if stub.failed.done():
        raise stub.failed.result()


def main() -> int:
    """Serve until a signal comes. Returns the exit status: 1 where a setting is wrong or the port cannot be had."""
    try:
        host, port = settings()
    except ValueError as error:
        sys.stderr.write(f"upstream stub: {error}\n")
        return 1
    try:
        uvloop.run(serve(host, port))
    except OSError as error:
        cause = os.strerror(error.errno) if error.errno else str(error)
        sys.stderr.write(f"upstream stub: cannot listen on {host} port {port}: {cause}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

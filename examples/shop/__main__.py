"""`python -m shop`, or `make shop`: the gateway and the four services, until Ctrl-C.

A process that ends is started again a second later, as Compose would do it, so that you can kill any of them and
watch. Exit status 0 after a signal; 1 if something could not be started. A second Ctrl-C ends everything at once.
"""

import argparse
import asyncio
import os.path
import signal
import sys
from pathlib import Path

from shop.processes import PACKAGE, Failure, Ports, Process, Shop

RESTART_SECONDS = 1.0
HERE = os.path.relpath(PACKAGE)

WELCOME = """
the shop is open; stop it with Ctrl-C. {package}/README.md explains what you see. Try:

  curl -s -X POST {gateway}/orders -H 'Idempotency-Key: my-first-order' -H 'Content-Type: application/json' \\
      -d '{{"customer": "ada", "items": [{{"sku": "coffee", "quantity": 2}}], "card": "tok_ok"}}'
      an order; the same command again answers with the same order
  curl -s '{gateway}/events?customer=ada'
      what the customer is told
  bash {package}/chaos/scripts/payment_errors.sh enable
      payments fails; order a few times, then: curl -s {gateway}/status/breakers
  bash {package}/chaos/scripts/payment_errors.sh disable
      and it recovers by itself
  kill -9 {orders_pid}
      the orders service in the middle of its work; it comes back and finishes what it had begun
"""


async def watch(process: Process) -> None:
    """Start it again whenever it has ended; cancelled when the shop closes."""
    while True:
        await process.wait()
        print(f"shop: {process.name} {process.ending()}; it starts again", flush=True)
        await asyncio.sleep(RESTART_SECONDS)
        await process.start()


async def serve(shop: Shop) -> None:
    """Start the shop, and stay until a signal."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    watchers = []
    starting = asyncio.ensure_future(shop.start())
    stopped = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait([starting, stopped], return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            watchers = [asyncio.ensure_future(watch(process)) for process in shop.processes.values()]
            pids = {"orders_pid": shop.processes["orders"].pid}
            gateway = f"http://localhost:{shop.ports.gateway}"
            print(WELCOME.format(gateway=gateway, package=HERE, **pids), flush=True)
        await stopped
        print("\nshop: closing; Ctrl-C again ends everything at once", flush=True)
    finally:
        for task in (starting, stopped, *watchers):
            task.cancel()
        await asyncio.gather(starting, stopped, *watchers, return_exceptions=True)
        await _close(shop, stop)


async def _close(shop: Shop, again: asyncio.Event) -> None:
    again.clear()
    closing = asyncio.ensure_future(shop.stop())
    impatient = asyncio.ensure_future(again.wait())
    await asyncio.wait([closing, impatient], return_when=asyncio.FIRST_COMPLETED)
    if not closing.done():
        for process in shop.processes.values():
            process.send(signal.SIGKILL)
    await closing
    impatient.cancel()


def main() -> int:
    """The exit status."""
    parser = argparse.ArgumentParser(prog="make shop", description="Run the shop until Ctrl-C.")
    parser.add_argument("--port", type=int, default=8000, help="of the gateway; the services have the next four")
    parser.add_argument("--data", type=Path, default=PACKAGE / "data", help="the directory of the SQLite files")
    arguments = parser.parse_args()
    shop = Shop(Ports.from_base(arguments.port), arguments.data.resolve(), os.environ)
    try:
        asyncio.run(serve(shop))
    except Failure as failure:
        print(f"shop: {failure}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`python -m gateway.worker CONTROL STORE GIFT STACKS`: what the supervisor starts (`gateway.supervisor.process`).

The arguments are descriptors: of the channels for control and for the store, of the socket on which listening sockets
are handed over, and of a file for the stacks of a worker that does not answer any more.
"""

import faulthandler
import gc
import os
import signal
import socket
import sys

# What is imported and built lives as long as the process. The collector begins to look once all of it is there
# (`gateway.assembly.lifecycle`).
gc.disable()

import uvloop  # noqa: E402 - after the collector is off

from gateway.worker.worker import Worker  # noqa: E402


def main() -> int:
    """Serve as one worker. Returns the exit status."""
    control, store, gift, stacks = map(int, sys.argv[1:])
    # Ctrl-C and Ctrl-\ in a terminal go to every process of the group; the supervisor says what they mean.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    for fd in (control, store, gift, stacks):
        os.set_inheritable(fd, False)
    sockets = [socket.socket(fileno=fd) for fd in (control, store, gift)]
    return uvloop.run(_serve(sockets))


async def _serve(sockets: list[socket.socket]) -> int:
    control, store, gift = sockets
    return await Worker(gift).run(control, store)


if __name__ == "__main__":
    sys.exit(main())

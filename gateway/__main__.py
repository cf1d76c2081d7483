"""`python -m gateway`, and the console script `gateway`."""

import os
import signal
import sys

# These signals ask a gateway for something, and must not end one that is still importing: until it has handlers of its
# own (gateway.supervisor.supervisor), they are ignored. Nothing here sets a timer, so those of timers mean nothing at
# any time: one that was set before the exec does not end a gateway (Go's programs ignore them, too).
for signum in (
    *(signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2),
    *(signal.SIGALRM, signal.SIGVTALRM, signal.SIGPROF),
):
    signal.signal(signum, signal.SIG_IGN)

# Some programs start others with standard files closed. The next file that is opened would then have the number of one,
# so that messages would be written into a socket; libuv aborts when it closes such a file. Each gets /dev/null, in
# ascending order, because open takes the lowest free number.
for number, name in enumerate(("stdin", "stdout", "stderr")):
    try:
        os.fstat(number)
    except OSError:
        os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        setattr(sys, name, open(number, "w" if number else "r", encoding="utf-8", closefd=False))  # noqa: SIM115 - until the end

from gateway.cli import program as main  # noqa: E402 - the imports take longer than a signal

if __name__ == "__main__":
    sys.exit(main())

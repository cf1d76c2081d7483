"""`python -m gateway`, and the console script `gateway`."""

import signal
import sys

# These signals ask a gateway for something, and must not end one that is still importing: until it has handlers of its
# own (gateway.supervisor.supervisor), they are ignored.
for signum in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
    signal.signal(signum, signal.SIG_IGN)

from gateway.cli import main  # noqa: E402 - the imports take longer than a signal

if __name__ == "__main__":
    sys.exit(main())

"""`python -m gateway`, and the console script `gateway`."""

import signal
import sys

# SIGHUP means "read again" here, and must not end a gateway that is still importing: until it has a handler of its own
# (gateway.lifecycle), the signal is ignored.
signal.signal(signal.SIGHUP, signal.SIG_IGN)

from gateway.cli import main  # noqa: E402 - the imports take longer than a signal

if __name__ == "__main__":
    sys.exit(main())

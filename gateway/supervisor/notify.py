"""What the service manager is told: readiness, reloads, the end, and signs of life (sd_notify(3), systemd.service(5)).

Without `NOTIFY_SOCKET` in the environment nobody is told anything. A service manager that cannot be reached is no
reason not to serve.
"""

import contextlib
import socket
import time
from collections.abc import MutableMapping


class Notify:
    """Tells the service manager. `watchdog` is the time in seconds within which it wants a sign of life, None for
    never."""

    def __init__(self, environ: MutableMapping[str, str], pid: int) -> None:
        """Takes its variables out of the environment: they are not meant for the workers."""
        self._address = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        meant = environ.pop("WATCHDOG_PID", str(pid)) == str(pid)
        self._watchdog_usec = microseconds if meant and microseconds.isascii() and microseconds.isdigit() else ""
        self.watchdog = int(microseconds) / 1_000_000 if self._watchdog_usec else None

    @property
    def variables(self) -> dict[str, str]:
        """The variables as they were, for this process after an exec."""
        found = {"NOTIFY_SOCKET": self._address, "WATCHDOG_USEC": self._watchdog_usec}
        return {name: value for name, value in found.items() if value}

    def ready(self, status: str) -> None:
        """The service serves, after a start or a reload."""
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        """A reload begins. `ready` ends it, whatever came of it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self) -> None:
        """The service ends."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """The sign of life."""
        self._send("WATCHDOG=1")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # An address that begins with @ is in the abstract namespace of Linux.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.sendto(text.encode(), address)

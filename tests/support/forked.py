"""Starts processes that `tests.support.fork_server` forks: one such server runs beside each process of pytest."""

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Final

from tests.support import fork_server
from tests.support.fork_server import Job

POSSIBLE: Final = sys.platform == "linux" and hasattr(os, "pidfd_open")
# Interpreters and libraries read these when they start, and the server has started already.
_READ_AT_START: Final = ("PYTHON", "LANG", "LC_", "TZ", "LD_", "MALLOC_", "COVERAGE_", "PYDANTIC_")

_lock = threading.Lock()
_server: "Server | None" = None


class ForkedProcess:
    """Like `subprocess.Popen`, as far as tests need it. Standard output and error are one stream."""

    def __init__(self, pid: int, stdout: IO[bytes], end: int) -> None:
        """`end` is read for the exit status."""
        self.pid = pid
        self.stdout: IO[bytes] | None = stdout
        self.returncode: int | None = None
        self._end = end
        self._lock = threading.Lock()
        weakref.finalize(self, os.close, end)

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0.0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status. Raises `subprocess.TimeoutExpired`."""
        if self.returncode is None and not _is_readable(self._end, timeout):
            raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
        with self._lock:
            if self.returncode is None:
                # A server that has ended has said nothing, and its processes were killed with it.
                self.returncode = int(os.read(self._end, 16) or -9)
            return self.returncode


class Server:
    """Forks, until it is closed. `environ` is what it has read when it started."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket = ours
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, fork_server.__file__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env={"PATH": os.environ.get("PATH", os.defpath), **environ},
                cwd="/",
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )

    def start(self, job: Job, pass_fds: Sequence[int]) -> ForkedProcess:
        """Have it fork."""
        output, into = os.pipe()
        end, tells = os.pipe()
        try:
            pid = job.ask(self._socket, [tells, into, into, *pass_fds])
        except BaseException:
            os.close(output)
            os.close(end)
            raise
        finally:
            os.close(into)
            os.close(tells)
        return ForkedProcess(pid, os.fdopen(output, "rb"), end)

    def close(self) -> None:
        """End it, and every process that it has forked."""
        self._socket.close()
        self._process.wait()


def start(
    command: Sequence[str], env: Mapping[str, str] | None, cwd: Path | None, pass_fds: Sequence[int]
) -> ForkedProcess | None:
    """Start what the command says, which is `python -m module argument ...`. None where that process would differ from
    one that is executed, or where the system does not have what is needed (Linux has it)."""
    if not POSSIBLE or env is None or list(command[:2]) != [sys.executable, "-m"]:
        return None
    with _lock:
        server = _server_for(env)
        if server is None:
            return None
        directory = str(cwd or Path.cwd())
        job = Job(command[2], command[3:], dict(env), [1, 2, *pass_fds], directory, leads_session=True)
        return server.start(job, pass_fds)


def stop() -> None:
    """End the server, if there is one. The next start begins another one."""
    global _server  # noqa: PLW0603 - one for the process, because a server takes as long to start as a gateway
    with _lock:
        if _server is not None:
            _server.close()
        _server = None


def _server_for(environ: Mapping[str, str]) -> Server | None:
    global _server  # noqa: PLW0603 - see `stop`
    wanted = _read_at_start(environ)
    if _server is None:
        _server = Server(wanted)
    return _server if _server.environ == wanted else None


def _read_at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith(_READ_AT_START)}


def _is_readable(file: int, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(None if timeout is None else timeout * 1000))

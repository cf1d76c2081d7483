"""Child processes that never outlive the test run.

Every child is started, watched and signalled by its own pid. It is ended by its context, by the interpreter's exit,
and, on Linux, by the kernel when the test run is killed. Its output is collected line by line, so a full pipe never
blocks it, and is part of every failure's message.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import gateway
from tests.support import forked
from tests.support.fork_server import TEMPLATE
from tests.support.waiting import PATIENCE, nap

ROOT = Path(__file__).resolve().parents[2]

# This one makes coverage begin in a child as well.
COVERAGE = "COVERAGE_PROCESS_CONFIG"
_INHERITED = ("PATH", COVERAGE)

_alive: "set[ChildProcess]" = set()


class ChildFailed(AssertionError):
    """A child did not do what was expected of it; the message has its output."""


class ChildProcess:
    """A running child. Standard output and error are one stream, available in `lines` as they come."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        pass_fds: Sequence[int] = (),
        fork: bool = False,
    ) -> None:
        """Start it. `env` replaces the environment; None inherits it. `pass_fds` stay open in it. With `fork` it need
        not be executed, where that makes no difference (`tests.support.forked`)."""
        self.name = name
        self.lines: list[str] = []
        found = forked.start(command, env, cwd, pass_fds) if fork else None
        self._popen = found or subprocess.Popen(
            [*_dies_with_us(), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=None if env is None else dict(env),
            cwd=cwd,
            pass_fds=pass_fds,
            start_new_session=True,
        )
        _alive.add(self)
        self._reader = threading.Thread(target=self._collect, name=f"output of {name}", daemon=True)
        self._reader.start()

    def __repr__(self) -> str:
        state = "running" if self.returncode is None else f"exited {self.returncode}"
        return f"<{type(self).__name__} {self.name} pid={self.pid} {state}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return self._popen.poll()

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
        """Poll until the condition holds; fails when the child exits before or the time is over."""
        began = time.monotonic()
        deadline = began + timeout
        while not condition():
            if self.returncode is not None:
                self._reader.join(5.0)
                raise ChildFailed(f"{self!r} ended before {what}:\n{self.output}")
            if time.monotonic() > deadline:
                raise ChildFailed(f"{self!r}: not {what} within {timeout} s:\n{self.output}")
            time.sleep(nap(began))

    def wait_for_line(self, text: str, timeout: float = 60.0) -> str:
        """The first line of output that contains the text."""
        self.wait_until(lambda: any(text in line for line in self.lines), f"printing {text!r}", timeout)
        return next(line for line in self.lines if text in line)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Wait for its end; the exit status."""
        try:
            status = self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise ChildFailed(f"{self!r} still runs after {timeout} s:\n{self.output}") from None
        self._close()
        return status

    def send_signal(self, number: signal.Signals) -> None:
        if self.returncode is None:
            os.kill(self.pid, number)

    def stop(self, timeout: float = PATIENCE) -> int:
        """SIGTERM and wait; the exit status. Fails, having killed it, when it does not end in time."""
        self.send_signal_to_all(signal.SIGCONT)
        self.send_signal(signal.SIGTERM)
        try:
            return self.wait(timeout)
        except ChildFailed:
            self.kill()
            raise

    def send_signal_to_all(self, number: signal.Signals) -> None:
        """To the process and to all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """SIGKILL to it and to all that it has started, and wait."""
        self.send_signal_to_all(signal.SIGKILL)
        self._popen.wait()
        self._close()

    def pause(self) -> None:
        """SIGSTOP to it and to all that it has started; returns when all have stopped."""
        self.send_signal_to_all(signal.SIGSTOP)
        if Path("/proc").exists():
            stats = [Path(f"/proc/{pid}/stat") for pid in (self.pid, *self.children())]
            self.wait_until(
                lambda: all(stat.read_text().rpartition(")")[2].split()[0] == "T" for stat in stats), "stopped"
            )

    def resume(self) -> None:
        self.send_signal_to_all(signal.SIGCONT)

    def children(self) -> list[int]:
        """The pids of the processes that it has started and that run, in the order of their start (Linux)."""
        try:
            pids = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        except OSError:
            return []
        return [int(pid) for pid in pids if not _only_forks(pid)]

    def end(self) -> None:
        """Make sure that it is gone: SIGTERM, and SIGKILL two seconds later. Never fails."""
        if self.returncode is None:
            self.send_signal_to_all(signal.SIGCONT)
            self.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(2.0)
            except subprocess.TimeoutExpired:
                self.send_signal_to_all(signal.SIGKILL)
                self._popen.wait()
        self.send_signal_to_all(signal.SIGKILL)
        self._close()

    def memory_bytes(self) -> int:
        """Resident set size now, of it and of all that it has started (Linux)."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in (self.pid, *self.children()))
        return pages * os.sysconf("SC_PAGE_SIZE")

    def _collect(self) -> None:
        stream = self._popen.stdout
        if stream is not None:
            for line in stream:
                self.lines.append(line.decode(errors="replace").rstrip("\n"))

    def _close(self) -> None:
        """The child is gone. A grandchild may still hold the pipe: then the reader is left to itself."""
        _alive.discard(self)
        self._reader.join(5.0)
        if self._popen.stdout is not None and not self._reader.is_alive():
            self._popen.stdout.close()


def clean_environment(**variables: str) -> dict[str, str]:
    """The environment for a program of ours: nothing of the caller's but the path, and coverage.

    It trusts no authority of the machine: their file would be read at each start, and tests have their own. Nor does
    pydantic look for plugins in every package that is installed here.

    It imports the gateway from where the tests import it: an installed one (`make build`), or this checkout.
    """
    inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    return {
        "PATH": os.defpath,
        **inherited,
        "PYTHONPATH": str(Path(gateway.__file__).parents[1]),
        "PYTHONUNBUFFERED": "1",
        "SSL_CERT_FILE": os.devnull,
        "SSL_CERT_DIR": os.devnull,
        "PYDANTIC_DISABLE_PLUGINS": "__all__",
        **variables,
    }


def has_ended(pid: int) -> bool:
    """Whether there is no such process, or only what its parent has not asked about (Linux). Where it has lost its
    parent, that is process 1, which in a container may never ask."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def _only_forks(pid: str) -> bool:
    """Whether it is there only because its parent was forked, and not executed (`tests.support.fork_server`)."""
    try:
        return Path(f"/proc/{pid}/comm").read_text() == f"{TEMPLATE}\n"
    except OSError:
        return False


def _dies_with_us() -> list[str]:
    # The kernel sends the signal when the *thread* that forked ends, so only the main thread can promise anything.
    if threading.current_thread() is not threading.main_thread():
        return []
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


@atexit.register
def _end_all() -> None:
    for child in list(_alive):
        child.end()
    forked.stop()

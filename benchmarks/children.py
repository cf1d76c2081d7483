"""Child processes of a run: pinned, measured through /proc, and ended by pid whatever happens to the run.

Each ends with its context; with the interpreter (`atexit`); and with the kernel's help when the run is killed, where
`setpriv` is installed.
"""

import atexit
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.host import is_listening, pinned

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_alive: "set[Child]" = set()


class ChildFailed(Exception):
    """A child could not be started; the message says what it printed."""


class Child:
    """A running program, on one core unless `core` is None. Standard error goes to `<directory>/<name>.log`; standard
    output too, unless `quiet`."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        core: int | None,
        directory: Path,
        env: Mapping[str, str] | None = None,
        quiet: bool = False,
    ) -> None:
        self.name = name
        self.log = directory / f"{name}.log"
        with pinned(core), self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                [*_dies_with_us(), *command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL if quiet else log,
                stderr=log,
                env=None if env is None else dict(env),
                cwd=directory,
                start_new_session=True,
            )
        _alive.add(self)

    def __repr__(self) -> str:
        return f"<Child {self.name} pid={self.pid} {'running' if self.running else 'ended'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.end()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen.poll() is None

    def wait_until(self, condition: Callable[[], bool], timeout: float = 15.0) -> None:
        """Raises `ChildFailed`, having ended it, when it ends before or the time is over."""
        deadline = time.monotonic() + timeout
        while not condition():
            if not self.running or time.monotonic() > deadline:
                what = "is not ready" if self.running else "ended"
                self.end()
                raise ChildFailed(f"{self.name} {what}: {self.log.read_text(errors='replace')[-800:].strip()}")
            time.sleep(0.02)

    def wait_listening(self, port: int) -> None:
        self.wait_until(lambda: is_listening(port))

    def cpu(self) -> float:
        """Seconds of user and system time, of it and all its descendants that are alive."""
        return sum(cpu_of_stat(stat) for stat in self._read_all("stat"))

    def resident_bytes(self) -> int:
        """Resident set size of it and its descendants, with what they share counted for each."""
        return sum(int(statm.split()[1]) * _PAGE for statm in self._read_all("statm"))

    def resident_peak_bytes(self) -> int:
        """The highest resident set size since the start or `reset_peak`, summed likewise."""
        return sum(peak_of_status(status) for status in self._read_all("status"))

    def reset_peak(self) -> None:
        for pid in _tree(self.pid):
            with open(f"/proc/{pid}/clear_refs", "w") as control:  # noqa: PTH123 - write_text would truncate
                control.write("5")

    def end(self) -> None:
        """SIGTERM, and SIGKILL three seconds later, to it and to what it has left behind. Idempotent."""
        family = _tree(self.pid) if self.running else []
        if self.running:
            self._popen.send_signal(signal.SIGTERM)
            try:
                self._popen.wait(3.0)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        for pid in family[1:]:
            # Same session means that the number was not given to somebody else's process meanwhile.
            try:
                if os.getsid(pid) == self.pid:
                    os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        _alive.discard(self)

    def _read_all(self, name: str) -> Iterator[str]:
        for pid in _tree(self.pid):
            try:
                yield Path(f"/proc/{pid}/{name}").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue


def cpu_of_stat(stat: str) -> float:
    """Seconds of user and system time from a line of /proc/PID/stat; the name in it may hold anything."""
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def peak_of_status(status: str) -> int:
    """Bytes of VmHWM in /proc/PID/status, 0 where there is none (a zombie)."""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def _tree(pid: int) -> list[int]:
    """The process and its descendants, parents first."""
    found = [pid]
    for parent in found:
        try:
            for task in Path(f"/proc/{parent}/task").iterdir():
                found += [int(child) for child in (task / "children").read_text().split()]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _dies_with_us() -> list[str]:
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


@atexit.register
def _end_all() -> None:
    for child in list(_alive):
        child.end()

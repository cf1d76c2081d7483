"""A program that has imported the gateway and the stub, and forks for each one that a test starts.

To import them takes an interpreter half a second of CPU time, which is most of what a short test with a gateway costs.
A process that is forked from this one is real: it has a pid, signals, files and an exit status of its own. It differs
from one that was executed in what it has imported, and in its command line (`/proc/PID/cmdline`). This program runs no
event loop, starts no thread and opens no connection, so there is nothing of that kind to inherit.

It is told what to start on a socket, whose number is its argument, and ends with that socket (`tests.support.forked`):

    test          --- Job, files --->   this program   --- fork --->   as `python -m gateway run`
                  <-- pid, or why not ---             --- its exit status, to the first of the files --->

A supervisor starts workers with `subprocess.Popen`. One that was forked has a child that does nothing but fork, and
asks that one instead: it forks a process, which forks the worker and ends. The orphan goes to the supervisor, which is
a subreaper (prctl(2)), so that a worker is the child of its supervisor here, too.

It imports nothing of the tests: its path is that of a program that was executed outside of the checkout.
"""

import sys

if __name__ == "__main__":
    # Where Python has put the directory of this file, `-m` puts the one in which a program begins.
    del sys.path[0]

import ctypes
import fcntl
import gc
import importlib
import json
import os
import runpy
import selectors
import signal
import socket
import subprocess
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

MOST_BYTES: Final = 1 << 17
"""Of one message. It has the environment of a process."""
TEMPLATE: Final = "fork-template"
"""The name of the child of a supervisor that only forks (`/proc/PID/comm`)."""
PRELOADED: Final = (
    *("gateway.cli", "gateway.supervisor.supervisor", "gateway.worker.worker", "gateway.assembly.gateway"),
    *("gateway.assembly.lifecycle", "gateway.store.redis", "upstream_stub.app", "asyncpg", "jwt"),
)
UNLIKE: Final = ("gateway.journal.fault_points", "gateway.journal.consumer")
"""Each process carries these out anew: what they have is that of one process, or of its environment."""

_WORKER: Final = "gateway.worker"
_MOST_FILES: Final = 250
_HIGH: Final = 600
"""Files are kept from here on while the others are closed."""
# linux/prctl.h
_PDEATHSIG: Final = 1
_NAME: Final = 15
_CHILD_SUBREAPER: Final = 36


@dataclass(frozen=True, slots=True)
class Job:
    """What a process is told by whoever executes `python -m module argument ...`. `files` are the numbers that the
    files get which come with it; the standard files stay as they are otherwise. `ignored` and `blocked` are signals."""

    module: str
    arguments: Sequence[str]
    environ: Mapping[str, str]
    files: Sequence[int]
    cwd: str | None = None
    leads_session: bool = False
    ignored: Sequence[int] = ()
    blocked: Sequence[int] = ()

    def ask(self, server: socket.socket, files: Sequence[int]) -> int:
        """Have a process forked, and wait until it is there. Returns its pid. Raises OSError when there is none."""
        socket.send_fds(server, [json.dumps(asdict(self)).encode()], files)
        answer = server.recv(MOST_BYTES).decode(errors="replace")
        if not answer.isdecimal():
            raise OSError(f"no process was forked: {answer or 'nobody answers'}")
        return int(answer)


class Worker:
    """A forked worker, as far as `subprocess.Popen` goes for the supervisor."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._reaped(os.WNOHANG)

    def wait(self) -> int | None:
        """Its exit status, as soon as it has ended."""
        return self._reaped(0)

    def kill(self) -> None:
        """SIGKILL, if it runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)

    def _reaped(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def started(server: socket.socket, execute: Any, command: Sequence[str], **options: Any) -> Any:
    """In the place of `subprocess.Popen` (`execute`) of a supervisor."""
    if _WORKER not in command:
        return execute(command, **options)
    files = list(options["pass_fds"])
    arguments = command[command.index(_WORKER) + 1 :]
    ignored = [each for each in signal.valid_signals() if signal.getsignal(each) is signal.SIG_IGN]
    blocked = list(signal.pthread_sigmask(signal.SIG_BLOCK, ()))
    job = Job(_WORKER, arguments, options["env"], files, ignored=ignored, blocked=blocked)
    return Worker(job.ask(server, files))


def serve(asked: socket.socket) -> Job:
    """Fork for each job, and tell whoever gave it how the process has ended. Returns in each of the processes, with its
    job; otherwise this one ends with the socket."""
    ends: dict[int, int] = {}
    selector = selectors.DefaultSelector()
    selector.register(asked, selectors.EVENT_READ)

    def forget() -> None:
        selector.close()
        asked.close()

    while True:
        for key, _ in selector.select():
            if key.fileobj is asked:
                job, (end, *files) = _received(asked)
                answer = _forked(job, files, forget)
                if answer is None:
                    return job
                if answer.isdigit():
                    process = os.pidfd_open(int(answer))
                    selector.register(process, selectors.EVENT_READ, int(answer))
                    ends[process] = end
                else:
                    os.close(end)
                asked.send(answer)
            else:
                selector.unregister(key.fileobj)
                _, status = os.waitpid(key.data, 0)
                with os.fdopen(ends.pop(key.fd), "w") as told:
                    told.write(str(os.waitstatus_to_exitcode(status)))
                os.close(key.fd)


def serve_supervisor(asked: socket.socket) -> Job:
    """Fork for each job a process whose parent is the one of this process. Returns as `serve` does."""
    while True:
        job, files = _received(asked)
        answer = _forked(job, files, asked.close, orphan=True)
        if answer is None:
            return job
        asked.send(answer)


def _received(asked: socket.socket) -> tuple[Job, list[int]]:
    text, files, _, _ = socket.recv_fds(asked, MOST_BYTES, _MOST_FILES)
    if not text:
        # Not as a program that comes to its end: what this one has, others have too.
        os._exit(0)
    return Job(**json.loads(text)), files


def _forked(job: Job, files: Sequence[int], forget: Callable[[], None], *, orphan: bool = False) -> bytes | None:
    """None in a new process, which is as its job says once it has called `forget`. In this one the pid of that, or why
    there is none."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        if orphan and os.fork():
            os._exit(0)
        try:
            forget()
            writer = _become(job, files, writer)
        except BaseException:  # noqa: BLE001 - told to whoever has asked
            os.write(writer, traceback.format_exc().encode())
            os._exit(1)
        os.write(writer, b"%d" % os.getpid())
        os.close(writer)
        return None
    os.close(writer)
    for file in files:
        os.close(file)
    with os.fdopen(reader, "rb") as said:
        answer = said.read()
    if orphan or not answer.isdigit():
        os.waitpid(pid, 0)
    return answer


def _become(job: Job, files: Sequence[int], writer: int) -> int:
    """Have what an exec would leave, and the files of the job. Returns the new number of `writer`."""
    high = max((_HIGH, *(number + 1 for number in job.files)))
    kept = [fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, high) for file in (*files, writer)]
    os.closerange(3, high)
    for file, number in zip(kept, job.files, strict=False):
        os.dup2(file, number)
        os.close(file)
    _prctl(_NAME, Path(sys.executable).name.encode())
    if job.leads_session:
        os.setsid()
        _prctl(_PDEATHSIG, signal.SIGKILL)
    if job.cwd is not None:
        os.chdir(job.cwd)
    for number in job.ignored:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, job.blocked)
    os.environ.clear()
    os.environ.update(job.environ)
    return kept[-1]


def with_template(job: Job) -> Job:
    """Let this process, which becomes a supervisor, ask for its workers. Returns in each of those, too."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    _prctl(_CHILD_SUBREAPER, 1)
    if os.fork() == 0:
        _prctl(_PDEATHSIG, signal.SIGKILL)
        _prctl(_NAME, TEMPLATE.encode())
        os.dup2(theirs.fileno(), 3)
        os.closerange(4, _HIGH)
        theirs.detach()
        ours.detach()
        return serve_supervisor(socket.socket(fileno=3))
    theirs.close()
    subprocess.Popen = partial(started, ours, subprocess.Popen)  # type: ignore[assignment,misc] # as the supervisor uses it
    return job


def _prctl(option: int, argument: Any) -> None:
    ctypes.CDLL(None).prctl(option, argument, 0, 0, 0)


def main() -> None:
    """Serve, and run what there is to run in each of the forked processes."""
    for name in PRELOADED:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    job = serve(socket.socket(fileno=int(sys.argv[1])))
    if job.module == "gateway" and "run" in job.arguments:
        job = with_template(job)
    for name in UNLIKE:
        importlib.reload(sys.modules[name])
    sys.argv = [job.module, *job.arguments]
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_module(job.module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

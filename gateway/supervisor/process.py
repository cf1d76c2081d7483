"""One worker as the supervisor sees it: a child process, two channels to it, and what it has said of itself.

    starting -> ready -> serving -> draining -> ended
                           |           |
                           +-> stalled +

The end of a worker is noticed by its control channel, which the kernel closes with the process.
"""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Final, Literal

from gateway.ipc.channel import Channel, Serve

State = Literal["starting", "ready", "serving", "draining", "stalled"]

_REAP_EVERY: Final = 0.02
_MOST_SOCKETS: Final = 250
"""In one message; the kernel takes 253."""


class WorkerProcess:
    """`slot` is its place, from 0. `started_at` and `heard_at` are instants of the monotonic clock. `replica` is its
    name in the embedded store."""

    def __init__(
        self,
        slot: int,
        pid: int,
        replica: str,
        gift: socket.socket,
        stacks: int,
        popen: "subprocess.Popen[bytes] | None" = None,
    ) -> None:
        self.slot = slot
        self.pid = pid
        self.replica = replica
        self.generation = 0
        self.state: State = "starting"
        self.started_at = self.heard_at = time.monotonic()
        self.drain_until = float("inf")
        self.leaves_for: str | None = None
        """Why it is replaced by another one, once it was told to leave."""
        self.control: Channel
        self.store: Channel
        self.gift = gift
        self.stacks = stacks
        self.closed: set[str] = set()
        """The purposes of the sockets that it has stopped to listen on for good."""
        self._popen = popen
        self._ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._reaping: asyncio.Task[None] | None = None
        self._connected = asyncio.Event()
        self.on_ended: Callable[[WorkerProcess], None] = lambda _: None

    def __repr__(self) -> str:
        return f"<WorkerProcess {self.slot} pid={self.pid} {self.state}>"

    @property
    def name(self) -> str:
        """For messages."""
        return f"worker {self.slot} (pid {self.pid})"

    @property
    def ending(self) -> str | None:
        """How it ended, None while it runs."""
        return self._ended.result() if self._ended.done() else None

    async def ended(self) -> str:
        """Wait for its end. Returns how it ended, in words."""
        return await asyncio.shield(self._ended)

    async def connect(
        self,
        control: socket.socket,
        store: socket.socket,
        serve: Serve,
        serve_store: Serve,
        received: tuple[bytes, bytes] = (b"", b""),
    ) -> None:
        """Open both channels. `received` was read from them before."""
        self.control = await Channel.over(control, serve, self.channel_lost, received[0])
        self.store = await Channel.over(store, serve_store, lambda: None, received[1])
        self._connected.set()

    def channel_lost(self) -> None:
        """The process is gone, or will be in a moment."""
        if self._reaping is None:
            self._reaping = asyncio.get_running_loop().create_task(self._reap())

    def give(self, sockets: Mapping[str, list[socket.socket]]) -> dict[str, int]:
        """Send it listening sockets. Returns how many of each purpose, in this order: it must be told so."""
        every = [sock.fileno() for given in sockets.values() for sock in given]
        for start in range(0, len(every), _MOST_SOCKETS):
            socket.send_fds(self.gift, [b"\0"], every[start : start + _MOST_SOCKETS])
        return {purpose: len(given) for purpose, given in sockets.items()}

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.ending is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def read_stacks(self) -> str:
        """What it has written about what it is doing."""
        with contextlib.suppress(OSError):
            size = os.fstat(self.stacks).st_size
            return os.pread(self.stacks, min(size, 64 * 1024), 0).decode("utf-8", "replace")
        return ""

    async def _reap(self) -> None:
        # It may have ended while its channels are being opened.
        await self._connected.wait()
        patience = time.monotonic() + 2.0
        while (status := self._status()) is None:
            if time.monotonic() > patience:
                # Its channel is closed, so nobody could tell it anything any more.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            await asyncio.sleep(_REAP_EVERY)
        self.control.close()
        self.store.close()
        self.gift.close()
        os.close(self.stacks)
        self._ended.set_result(_in_words(status))
        self.on_ended(self)

    def _status(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        if self._popen is not None:
            return self._popen.poll()
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return 0
        return os.waitstatus_to_exitcode(status) if pid else None


async def spawn(slot: int, replica: str, environ: Mapping[str, str], serve: Serve, serve_store: Serve) -> WorkerProcess:
    """Start a fresh interpreter for a worker. `serve` and `serve_store` serve what it asks on its two channels.

    Raises OSError where there are no more files or processes; then nothing is left open."""
    with ExitStack() as theirs, ExitStack() as ours:
        control, its_control = _pair(ours, theirs)
        store, its_store = _pair(ours, theirs)
        gift, its_gift = _pair(ours, theirs)
        stacks = unnamed_file("gateway-stacks")
        ours.callback(os.close, stacks)
        inherited = (its_control.fileno(), its_store.fileno(), its_gift.fileno(), stacks)
        popen = subprocess.Popen(  # noqa: ASYNC220, S603 - this interpreter; a fork and an exec take a millisecond
            [*interpreter(), "-m", "gateway.worker", *map(str, inherited)],
            stdin=subprocess.DEVNULL,
            pass_fds=inherited,
            env=dict(environ),
        )
        ours.pop_all()
    worker = WorkerProcess(slot, popen.pid, replica, gift, stacks, popen)
    try:
        await worker.connect(control, store, serve, serve_store)
    except BaseException:
        # Nobody would look after it.
        popen.kill()
        popen.wait()
        raise
    return worker


def interpreter() -> list[str]:
    """The command that runs Python code as this process runs it."""
    return [sys.executable, "-P"] if sys.flags.safe_path else [sys.executable]


def unnamed_file(purpose: str) -> int:
    """The descriptor of a file without a name; `purpose` is for those who look at this process. Raises OSError."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create(purpose)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _pair(ours: ExitStack, theirs: ExitStack) -> tuple[socket.socket, socket.socket]:
    """Two connected sockets. Each belongs to its stack."""
    one, other = socket.socketpair()
    return ours.enter_context(one), theirs.enter_context(other)


def _in_words(status: int) -> str:
    if status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    return f"ended with status {status}"

"""The supervisor of one service: signals in, workers that serve, and the end.

    SIGTERM, SIGINT, SIGQUIT    drain and end; a second one hurries
    SIGHUP                      reload: read the configuration anew
    SIGUSR2                     upgrade: run the supervisor's own new code in place, then replace the workers

It serves no request, and needs neither the code of the data plane nor that of the control plane. Whoever kills it with
SIGKILL ends the service: its workers notice, finish what they have, and end.
"""

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Coroutine, Sequence
from typing import Any, Final, TypeVar

from gateway import __version__
from gateway.ipc.channel import Reply, Serve
from gateway.ipc.socket_purposes import LISTENER
from gateway.store.memory.dump import Unusable
from gateway.store.served.server import StoreServer
from gateway.supervisor import upgrade
from gateway.supervisor.board import State
from gateway.supervisor.changes import Change, Changes
from gateway.supervisor.crew import Crew
from gateway.supervisor.generation import Generation
from gateway.supervisor.logs import Logs
from gateway.supervisor.notify import Notify
from gateway.supervisor.one_service import OneService
from gateway.supervisor.process import WorkerProcess, unnamed_file
from gateway.supervisor.sockets import GivenUnusable, Sockets
from gateway.syntax import hosts

log = logging.getLogger("gateway.supervisor")

Result = TypeVar("Result")

_STATES: Final[dict[str, State]] = {
    "starting": "starting",
    "ready": "starting",
    "serving": "ready",
    "draining": "draining",
    "stalled": "stalled",
}
"""What the states of a process are called to those who look."""
_LONGEST_END: Final = 5.0
_ALIVE_SHARE: Final = 0.4
"""Of the time that the watchdog allows, so that one sign of life may be lost."""


class Supervisor:
    """Everything that outlives a worker."""

    def __init__(self, given: list[str | None], carried: upgrade.Carried | None) -> None:
        environ = os.environ
        self._notify = Notify(environ, os.getpid())
        self._sockets = Sockets() if carried is None else Sockets.restored(carried.sockets)
        if carried is None:
            self._sockets.take_given(environ, os.getpid())
        self._logs = Logs()
        self._crew = Crew(dict(environ), given, self._sockets, self)
        self._changes = Changes(self._crew)
        self._one_service = OneService()
        self._store = StoreServer()
        self._carried = carried
        self._stopping = asyncio.Event()
        self._hurry = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._waiting: asyncio.Task[Change] | None = None
        """The reload that has not begun yet."""

    async def run(self) -> int:
        """Serve until told to stop. Returns the exit status."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            loop.add_signal_handler(signum, self._told_to_stop, signum.name)
        loop.add_signal_handler(signal.SIGHUP, self._told_to_reload)
        loop.add_signal_handler(signal.SIGUSR2, self._told_to_upgrade)
        loop.add_signal_handler(signal.SIGUSR1, log.info, "SIGUSR1 received; it means nothing here")
        signal.pthread_sigmask(signal.SIG_UNBLOCK, upgrade.HELD_BACK)
        try:
            if not await self._begin():
                return 1
            self._crew.watch()
            self._one_service.start()
            alive = loop.create_task(self._stay_alive())
            await self._stopping.wait()
            self._notify.stopping()
            self._one_service.board.stopping = True
            await self._crew.stop(hurry=self._hurry)
            alive.cancel()
            log.info("stopped")
            return 0
        finally:
            ends = [asyncio.ensure_future(each.ended()) for each in self._crew.started if each.ending is None]
            if ends:
                # They were killed; but nothing of the service is to be left when this process ends.
                await asyncio.wait(ends, timeout=_LONGEST_END)
            self._sockets.close()
            self._logs.close()

    # What the workers ask (gateway.supervisor.crew.Host).

    def serve(self, worker: WorkerProcess, operation: str, body: Any, reply: Reply) -> None:
        """Serve a call of a worker that is not about its own life."""
        if self._one_service.serve(worker.slot, worker.pid, operation, body, reply):
            return
        if operation == "reload":
            dry_run = body["dry_run"]
            making = self._changes.make(dry_run=True) if dry_run else self._reload_soon("asked by the control plane")
            self._start(answer(making, reply))
        elif operation == "upgrade":
            self._start(answer(self._upgrade(), reply))
        else:
            raise ValueError(f"there is no operation {operation!r}")

    def store_for(self, replica: str) -> Serve:
        """Serve the embedded store to a replica of this name."""
        return self._store.serve_for(replica)

    def started(self, worker: WorkerProcess) -> None:
        """A worker process was made."""
        self._one_service.started(worker.slot, worker.pid, worker.control)

    def changed(self, worker: WorkerProcess) -> None:
        """A worker has come into another state."""
        self._one_service.state(worker.slot, worker.pid, _STATES[worker.state])

    def gone(self, worker: WorkerProcess, cause: str | None) -> None:
        """A worker has ended."""
        self._one_service.ended(worker.slot, worker.pid, cause)

    # The life of the service.

    async def _begin(self) -> bool:
        if self._carried is not None:
            await self._carry_on(self._carried)
            return True
        making = asyncio.ensure_future(self._changes.make())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait([making, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not making.done():
            making.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await making
            return True
        stopping.cancel()
        change = making.result()
        self._one_service.board.reloaded(change.problems)
        if change.problems:
            sys.stderr.write("\n".join([*change.problems, ""]))
            return False
        self._settled(change)
        return True

    def _settled(self, change: Change) -> None:
        """A change has taken effect: say so."""
        generation = self._crew.generation
        assert generation is not None  # noqa: S101 - a change was made
        self._logs.follow(generation)
        board = self._one_service.board
        board.wanted, board.config_hash = generation.workers, generation.hash
        for notice in change.notices:
            log.warning("Configuration: %s", notice, extra={"event": "configuration_notice"})
        host, port = generation.addresses[LISTENER]
        workers = f"{generation.workers} worker{'s' * (generation.workers != 1)}"
        log.info(
            "listening on %s with %s: %s",
            hosts.written(host or "*", port),
            workers,
            generation.summary,
            extra={"version": __version__, "event": "serving", "pids": [w.pid for w in self._crew.current.values()]},
        )
        self._notify.ready(f"{workers}; {generation.summary}")

    def _reload_soon(self, why: str) -> "asyncio.Task[Change]":
        """A reload that reads the configuration from now on. Whoever asks while one waits for its turn shares that one:
        it reads then what is there then, so a hundred signals during a reload make one more."""
        if self._waiting is None or self._waiting.done():
            self._waiting = self._start(self._reload(why))
        return self._waiting

    async def _reload(self, why: str, cause: str = "reload") -> Change:
        if self._crew.stopping:
            return Change(["the service ends"])
        log.info("reload: %s", why)
        change = await self._changes.make(cause, begun=self._reload_begun)
        before = self._crew.generation
        self._one_service.board.reloaded(change.problems)
        self._one_service.changed()
        if change.problems:
            for problem in change.problems:
                log.error("reload refused: %s", problem, extra={"event": "reload_refused"})
            if before is not None:
                self._notify.ready(f"reload refused; {before.summary}")
            return change
        for line in change.differences or ["no setting is another one"]:
            log.info("reload: %s", line, extra={"event": "reload_difference"})
        self._settled(change)
        return change

    def _reload_begun(self) -> None:
        self._waiting = None
        self._notify.reloading()

    async def _upgrade(self) -> Change:
        """Run the new code of the supervisor. Returns only if that cannot be: the new code could not read the
        configuration."""
        if self._crew.stopping:
            return Change(["the service ends"])
        log.info("upgrade: trying the new code")
        change = await self._changes.make(dry_run=True)
        problem = None if change.problems else await upgrade.problem_of_new_code()
        if problem is not None:
            change = Change([problem])
        if change.problems:
            for line in change.problems:
                log.error("upgrade refused: %s", line, extra={"event": "upgrade_refused"})
            return change
        asyncio.get_running_loop().call_later(0.05, lambda: self._start(self._exec()))
        return Change(differences=change.differences, notices=change.notices, done=True)

    async def _exec(self) -> None:
        # A reload that has begun since then is finished first: its workers would belong to nobody.
        async with self._changes.turn:
            if self._crew.stopping:
                return
            try:
                file = unnamed_file("gateway-upgrade")
            except OSError as error:
                # Before anything stands still for it.
                log.error("upgrade refused: %s", error.strerror, extra={"event": "upgrade_refused"})  # noqa: TRY400 - the reason is in it
                return
            log.info("upgrade: the supervisor executes its new code")
            self._notify.reloading()
            one_service, store = self._one_service.dump, self._store.dump
            carried = await upgrade.carried(self._crew, self._changes, self._sockets, one_service, store)
            self._logs.close()
            upgrade.execute(carried, file, self._notify.variables, self._crew.given)

    async def _carry_on(self, carried: upgrade.Carried) -> None:
        """After an exec: the workers go on as they are, and are replaced by new ones."""
        generation = Generation.of(carried.generation_number, carried.generation)
        self._changes.generations = carried.generation_number
        self._crew.serial = carried.serial
        self._one_service.restore(carried.one_service)
        try:
            self._store.restore(carried.store)
        except Unusable as reason:
            log.warning("upgrade: the embedded store starts empty, because what it held cannot be used: %s", reason)
        workers = [await upgrade.adopted(each, self._crew, self.store_for) for each in carried.workers]
        for worker in workers:
            self.started(worker)
        self._crew.adopt(workers, generation)
        self._sockets.settle(generation.addresses)
        self._logs.follow(generation)
        log.info("upgrade: version %s carries on with %d workers", __version__, len(self._crew.current))
        change = await self._reload("the supervisor was upgraded", "upgrade")
        if change.problems:
            log.error("upgrade: the old workers go on, because new ones do not start")

    def _told_to_stop(self, name: str) -> None:
        log.info("%s received", name)
        if self._stopping.is_set():
            self._hurry.set()
        self._stopping.set()

    def _told_to_reload(self) -> None:
        if self._crew.generation is not None:
            self._reload_soon("SIGHUP received")

    def _told_to_upgrade(self) -> None:
        log.info("SIGUSR2 received")
        if self._crew.generation is not None:
            self._start(self._upgrade())

    def _start(self, work: Coroutine[Any, Any, Result]) -> "asyncio.Task[Result]":
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended_task)
        return task

    def _ended_task(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("the supervisor failed", exc_info=task.exception())

    async def _stay_alive(self) -> None:
        if self._notify.watchdog is None:
            return
        while True:
            self._notify.alive()
            await asyncio.sleep(self._notify.watchdog * _ALIVE_SHARE)


async def answer(making: Awaitable[Change], reply: Reply) -> None:
    """Answer a worker with what comes of a change. What it raises is told, too: nobody waits in vain."""
    try:
        change = await making
    except Exception as error:
        reply.fail(f"{type(error).__name__}: {error}")
        raise
    reply(change.plain())


def run(given: Sequence[str | None]) -> int:
    """Run the service. `given` are the files that the command line names (`gateway.config.command_line.Given`). Returns
    the exit status."""
    import uvloop  # noqa: PLC0415

    carried = upgrade.received(os.environ)
    return uvloop.run(_serve(list(given), carried))


async def _serve(given: list[str | None], carried: upgrade.Carried | None) -> int:
    try:
        supervisor = Supervisor(given, carried)
    except GivenUnusable as reason:
        sys.stderr.write(f"{reason}\n")
        return 1
    return await supervisor.run()

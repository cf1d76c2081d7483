"""The workers of the service: started, watched, replaced when they die, and ended.

One that dies is replaced at once. One that dies young is replaced after a pause, which doubles with each such death in
its slot, from `_FIRST_PAUSE` to `_LONGEST_PAUSE`: what makes a worker die again and again must not take the machine.

As long as a slot is empty another worker stands in for it: it accepts on the sockets of the slot too, because the
kernel goes on to spread new connections over all sockets.

A worker tells about once a second that its event loop turns. When it has been silent for `stall` seconds it is asked
for the stacks of its threads, which go into the log, and is killed and replaced like one that died.
"""

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, Final, Literal, Protocol

from gateway.ipc.channel import CallFailed, ChannelLost, Reply, Serve
from gateway.ipc.socket_purposes import LISTENER
from gateway.supervisor.generation import Generation
from gateway.supervisor.process import WorkerProcess, spawn
from gateway.supervisor.sockets import Sockets

log = logging.getLogger("gateway.supervisor")

_YOUNG: Final = 10.0
_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
_MOST_DOUBLINGS: Final = 10
"""More than lead to the longest pause. The power of a larger number would not fit into a float."""
_START: Final = 60.0
"""A worker that is not ready after so many seconds does not start."""
_STACKS: Final = 0.5
_LOOK: Final = 1.0
_LATE: Final = 2.0
_GRACE: Final = 10.0
"""Seconds beyond its own time limit after which a worker that drains is killed."""

Cause = Literal["died", "stalled"]


class StartFailed(Exception):
    """A worker did not become ready. The message is the reason, for the operator."""


def pause_after(deaths: int) -> float:
    """How long a slot stays empty, in seconds, after so many ends of young workers and starts that failed in a row."""
    return 0.0 if deaths <= 1 else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(deaths - 2, _MOST_DOUBLINGS))


class Host(Protocol):
    """What the rest of the supervisor does for the workers."""

    def serve(self, worker: WorkerProcess, operation: str, body: Any, reply: Reply) -> None:
        """Serve a call of a worker that is not about its own life."""
        ...

    def store_for(self, replica: str) -> Serve:
        """Serve the embedded store to a replica of this name."""
        ...

    def started(self, worker: WorkerProcess) -> None:
        """A worker process was made."""
        ...

    def changed(self, worker: WorkerProcess) -> None:
        """A worker has come into another state."""
        ...

    def gone(self, worker: WorkerProcess, cause: str | None) -> None:
        """A worker has ended. `cause` says why another one takes its place, None where none does."""
        ...


class Crew:
    """All workers. `current` are those that serve, by slot; `leaving` are those that finish what they have."""

    def __init__(self, environ: Mapping[str, str], given: list[str | None], sockets: Sockets, host: Host) -> None:
        self.environ = environ
        self.given = given
        self.sockets = sockets
        self.generation: Generation | None = None
        self.current: dict[int, WorkerProcess] = {}
        self.leaving: set[WorkerProcess] = set()
        self.stopping = False
        self._host = host
        self.serial = 0
        """How many workers were started; no two of them have the same name in the store."""
        self._deaths: Counter[int] = Counter()
        self._stand_ins: dict[int, WorkerProcess] = {}
        """Who was told to accept for a slot that is empty."""
        self._tasks: set[asyncio.Task[None]] = set()
        self.started: set[WorkerProcess] = set()
        self._handing_over = False
        self._watch: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many processes there are."""
        return len(self.current) + len(self.leaving)

    @property
    def everybody(self) -> list[WorkerProcess]:
        """All workers that run, those that are leaving last."""
        return [*self.current.values(), *self.leaving]

    async def spawn(self, slot: int) -> WorkerProcess:
        """Start a process for this slot. It waits to be told what to do. Raises `StartFailed`."""
        self.serial += 1
        replica = f"{slot}-{self.serial}"

        def serve(operation: str, body: Any, reply: Reply) -> None:
            self._serve(worker, operation, body, reply)

        try:
            worker = await spawn(slot, replica, self.environ, serve, self._host.store_for(replica))
        except OSError as error:
            raise StartFailed(f"a worker cannot be started: {error.strerror or error}") from error
        worker.on_ended = self._ended
        self.started = {each for each in self.started if each.ending is None} | {worker}
        self._host.started(worker)
        return worker

    async def prepare(self, worker: WorkerProcess, generation: Generation, addresses: Mapping[str, Any]) -> None:
        """Have it build everything for this generation, and give it its sockets. It does not listen yet. Raises
        `StartFailed`."""
        sockets = self.sockets.of(addresses, worker.slot, generation.workers)
        worker.generation = generation.number
        try:
            async with asyncio.timeout(_START):
                await worker.control.call(
                    "begin",
                    {
                        "environ": dict(self.environ),
                        "given": self.given,
                        "texts": dict(generation.texts),
                        "slot": worker.slot,
                        "workers": generation.workers,
                        "sockets": worker.give(sockets),
                        "lasting": self.sockets.lasting,
                    },
                )
        except CallFailed as failed:
            raise StartFailed(str(failed)) from failed
        except ChannelLost:
            raise StartFailed(f"{worker.name} {await worker.ended()} before it was ready") from None
        except TimeoutError:
            raise StartFailed(f"{worker.name} was not ready within {_START:.0f} s") from None
        except OSError as error:
            raise StartFailed(f"{worker.name} could not be given its sockets: {error.strerror}") from error
        worker.state = "ready"
        worker.heard_at = time.monotonic()

    def install(self, generation: Generation, fresh: Iterable[WorkerProcess], cause: str) -> None:
        """Let these serve from now on. Those that served before finish what they have."""
        kept = dict(self.current)
        before = self.generation
        self.generation = generation
        self.current = {}
        self._stand_ins = {}
        for worker in fresh:
            self._accept(worker)
        addresses = {} if before is None else before.addresses
        closing = [purpose for purpose, address in addresses.items() if generation.addresses.get(purpose) != address]
        for worker in kept.values():
            self.release(worker, closing, cause)
        self._deaths.clear()

    def release(self, worker: WorkerProcess, closing: list[str], cause: str | None, *, final: bool = False) -> None:
        """Let a worker finish what it has, and end. The sockets of the purposes in `closing` end with it, the others
        were handed on; `cause` says why it is replaced, `final` that the service ends."""
        generation = self.generation
        if self.current.get(worker.slot) is worker:
            del self.current[worker.slot]
        self.leaving.add(worker)
        worker.state = "draining"
        worker.leaves_for = cause
        self._host.changed(worker)
        if generation is not None:
            most = generation.drain + (0.0 if final else generation.tunnel_drain)
            worker.drain_until = time.monotonic() + most + _GRACE
        worker.control.tell("drain", {"final": final, "closing": closing})

    def dismiss(self, worker: WorkerProcess) -> None:
        """End a worker that never served. It has nothing to finish, and may be busy with its imports."""
        worker.on_ended = lambda gone: self._host.gone(gone, None)
        worker.signal(signal.SIGKILL)
        worker.channel_lost()

    def watch(self) -> None:
        """Look after the workers from now on."""
        self._watch = asyncio.get_running_loop().create_task(self._look_after())

    async def stop(self, *, hurry: asyncio.Event) -> None:
        """Let every worker finish what it has, and wait for the end of all. With `hurry` they finish nothing."""
        self.stopping = True
        for task in self._tasks:
            task.cancel()
        closing = list(self.generation.addresses) if self.generation is not None else []
        for worker in list(self.current.values()):
            self.release(worker, closing, None, final=True)
        hurried = False
        while self.leaving:
            if hurry.is_set() and not hurried:
                hurried = True
                for worker in self.leaving:
                    worker.control.tell("hurry")
                    worker.drain_until = time.monotonic() + _GRACE
            if self.current_closed():
                # The sockets of the supervisor would keep the kernel accepting.
                self.sockets.close()
            await asyncio.sleep(0.02)
        if self._watch is not None:
            self._watch.cancel()

    def current_closed(self) -> bool:
        """Whether no worker listens any more."""
        return all(LISTENER in worker.closed or worker.ending for worker in self.everybody)

    def adopt(self, workers: Iterable[WorkerProcess], generation: Generation) -> None:
        """Take over workers that were started before an exec."""
        self.generation = generation
        for worker in workers:
            worker.on_ended = self._ended
            if worker.state == "draining":
                self.leaving.add(worker)
            else:
                # One that stood still is found again.
                worker.state = "serving"
                self.current[worker.slot] = worker
        for slot in range(generation.workers):
            if slot not in self.current:
                self._start_task(self._replace(slot, _FIRST_PAUSE))
        for worker in (each for each in self.everybody if each.ending is not None):
            self._ended(worker)

    async def hand_over(self) -> None:
        """Before an exec: start nobody any more, and wait for those to end who would belong to nobody. Idempotent."""
        self._handing_over = True
        for task in (tasks := list(self._tasks)):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        living = {each for each in self.everybody if not (each.control.lost or each.store.lost)}
        gone = [each for each in self.started.union(self.everybody) - living if each.ending is None]
        for worker in gone:
            worker.signal(signal.SIGKILL)
            worker.channel_lost()
        await asyncio.gather(*(worker.ended() for worker in gone))

    def serve_for(self, worker: WorkerProcess) -> Serve:
        """What serves the calls of a worker that was adopted."""
        return lambda operation, body, reply: self._serve(worker, operation, body, reply)

    def _accept(self, worker: WorkerProcess) -> None:
        worker.state = "serving"
        worker.heard_at = time.monotonic()
        self.current[worker.slot] = worker
        worker.control.tell("accept")
        stand_in = self._stand_ins.pop(worker.slot, None)
        if stand_in is not None:
            stand_in.control.tell("give_back", {"slot": worker.slot})
        self._host.changed(worker)

    def _cover(self) -> None:
        """See to it that somebody accepts for each slot that is empty."""
        generation = self.generation
        if self.stopping or generation is None or not self.current:
            return
        for slot in range(generation.workers):
            stand_in = self._stand_ins.get(slot)
            covered = stand_in is not None and self.current.get(stand_in.slot) is stand_in
            if covered or slot in self.current:
                continue
            slots_of = Counter(each.slot for each in self._stand_ins.values())
            worker = min(self.current.values(), key=lambda each: (slots_of[each.slot], each.slot))
            try:
                sockets = worker.give(self.sockets.own(generation.addresses, slot, generation.workers))
            except OSError as error:
                log.warning("%s cannot stand in for worker %d: %s", worker.name, slot, error.strerror)
                continue
            self._stand_ins[slot] = worker
            worker.control.tell("stand_in", {"slot": slot, "sockets": sockets})

    def _serve(self, worker: WorkerProcess, operation: str, body: Any, reply: Reply) -> None:
        worker.heard_at = time.monotonic()
        if operation == "closed":
            worker.closed.update(body)
        elif operation == "relieve":
            self._start_task(self._relieve(worker))
        else:
            self._host.serve(worker, operation, body, reply)

    def _ended(self, worker: WorkerProcess) -> None:
        stalled = worker.state == "stalled"
        if worker in self.leaving:
            self.leaving.discard(worker)
            self._host.gone(worker, worker.leaves_for)
            return
        if self.current.get(worker.slot) is not worker:
            self._host.gone(worker, None)
            return
        del self.current[worker.slot]
        cause: Cause = "stalled" if stalled else "died"
        self._host.gone(worker, None if self.stopping else cause)
        if self.stopping or self._handing_over:
            return
        if time.monotonic() - worker.started_at >= _YOUNG:
            self._deaths[worker.slot] = 0
        self._deaths[worker.slot] += 1
        pause = pause_after(self._deaths[worker.slot])
        log.error(
            "%s %s; it is replaced %s", worker.name, worker.ending, f"in {pause:.1f} s" if pause else "at once",
            extra={"event": "worker_ended", "worker": worker.slot, "pid": worker.pid, "cause": cause},
        )  # fmt: skip
        self._cover()
        self._start_task(self._replace(worker.slot, pause))

    async def _relieve(self, worker: WorkerProcess) -> None:
        """Put another worker in the place of one that is to leave."""
        generation = self.generation
        if self.stopping or self._handing_over or generation is None or self.current.get(worker.slot) is not worker:
            return
        try:
            fresh = await self._prepared(worker.slot, generation)
        except StartFailed as failed:
            log.error("%s cannot be replaced, and goes on: %s", worker.name, failed)  # noqa: TRY400 - the reason is in it
            return
        if self.stopping or self.current.get(worker.slot) is not worker:
            self.dismiss(fresh)
            return
        self.release(worker, [], "reload")
        self._accept(fresh)
        self._cover()

    async def _prepared(self, slot: int, generation: Generation) -> WorkerProcess:
        """A worker of this generation that is ready to serve. Raises `StartFailed`."""
        worker = await self.spawn(slot)
        try:
            await self.prepare(worker, generation, generation.addresses)
        except BaseException:
            self.dismiss(worker)
            raise
        return worker

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, slot: int, pause: float) -> None:
        while True:
            await asyncio.sleep(pause)
            generation = self.generation
            if self.stopping or generation is None or slot in self.current or slot >= generation.workers:
                return
            try:
                worker = await self._prepared(slot, generation)
            except StartFailed as failed:
                self._deaths[slot] += 1
                pause = pause_after(self._deaths[slot])
                log.error("worker %d cannot be replaced, next try in %.1f s: %s", slot, pause, failed)  # noqa: TRY400
                continue
            if self.stopping or self.generation is not generation or slot in self.current:
                self.dismiss(worker)
                continue
            self._accept(worker)
            self._cover()
            log.info("%s serves", worker.name, extra={"event": "worker_started", "worker": slot, "pid": worker.pid})
            return

    async def _look_after(self) -> None:
        due = time.monotonic() + _LOOK
        while True:
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            if now - due > _LATE:
                # This process stood still, or the machine did: nobody could have been heard.
                for worker in self.everybody:
                    worker.heard_at = now
            due = now + _LOOK
            stall = self.generation.stall if self.generation is not None else float("inf")
            for worker in self.everybody:
                if worker.state in ("serving", "draining") and now - worker.heard_at > stall:
                    self._start_task(self._end_stalled(worker, now - worker.heard_at))
                elif now > worker.drain_until:
                    log.warning("%s did not end in time, and is killed", worker.name)
                    worker.signal(signal.SIGKILL)

    async def _end_stalled(self, worker: WorkerProcess, silent: float) -> None:
        worker.state = "stalled"
        self._host.changed(worker)
        worker.signal(signal.SIGUSR1)
        await asyncio.sleep(_STACKS)
        log.error(
            "%s has given no sign of life for %.0f s, and is killed", worker.name, silent,
            extra={"event": "worker_stalled", "worker": worker.slot, "pid": worker.pid, "stacks": worker.read_stacks()},
        )  # fmt: skip
        worker.signal(signal.SIGKILL)

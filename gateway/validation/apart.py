"""Bodies that may take long are judged in a process of their own, because the library can be interrupted in no other
way: it holds the interpreter, so that neither a thread nor a timer of this process would have its turn meanwhile.

    waiting    in the order in which they came, at most `_MOST_WAITING`
    judged     one at a time; one that takes longer than the time limit has the process killed, and another one begins

The time limit counts from when a body has come, the time in which it waits for others included; only the time that the
process needs to begin is not counted. The process is there from the first body on that needs it.
"""

import asyncio
import contextlib
import logging
import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, cast

import orjson

from gateway.validation.faults import Fault
from gateway.validation.judging import LENGTH, frame
from gateway.validation.rules import Rules

log: Final = logging.getLogger("gateway")

_MOST_WAITING: Final = 64
# Compiling large documents takes seconds, on a busy machine more.
_LONGEST_START: Final = 60.0
_LONGEST_END: Final = 2.0
_COMMAND: Final = (sys.executable, "-P", "-m", "gateway.validation.judging")


class BodyJudgement(NamedTuple):
    """What came of it: `malformed` says in words why the body is not of its media type. `unavailable`: it could not be
    judged, for this reason."""

    faults: Sequence[Fault] = ()
    malformed: str = ""
    unavailable: str = ""


Done = Callable[[BodyJudgement], None]
TOO_LONG: Final = BodyJudgement(unavailable="validating the request took too long")
TOO_MANY: Final = BodyJudgement(unavailable="too many large requests wait to be validated")
_NOT_THERE: Final = BodyJudgement(unavailable="requests cannot be validated now")


class _Job:
    """One body that is to be judged. `done` is called once."""

    __slots__ = ("body", "done", "head", "timer")

    def __init__(self, head: list[object], body: bytes, done: Done) -> None:
        self.head = head
        self.body = body
        self.done = done
        self.timer: asyncio.TimerHandle | None = None

    def end(self, judgement: BodyJudgement) -> None:
        """Say what came of it."""
        if self.timer is not None:
            self.timer.cancel()
        self.body = b""
        self.done(judgement)


class Apart:
    """The process of one gateway. `rules` are all that it may be asked about, `timeout` in seconds."""

    def __init__(self, rules: Sequence[Rules], timeout: float) -> None:
        self._rules = list(rules)
        self._timeout = timeout
        self._waiting: deque[_Job] = deque()
        self._current: _Job | None = None
        self._process: _Process | None = None
        self._starting: asyncio.Task[None] | None = None
        self._stopped = False

    def judge(self, rules: Rules, method: str, path: bytes, media: str, body: bytes, done: Done) -> None:
        """Call `done` once, later or at once."""
        if self._stopped or len(self._waiting) >= _MOST_WAITING:
            done(TOO_MANY)
            return
        job = _Job([self._rules.index(rules), method, path.decode("latin-1"), media], body, done)
        self._waiting.append(job)
        if self._ready:
            self._bound(job)
        self._next()

    async def stop(self) -> None:
        """End the process. What is not judged yet is not judged."""
        self._stopped = True
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        process, self._process = self._process, None
        if process is not None:
            await process.end()
        self._fail_all()

    @property
    def _ready(self) -> bool:
        return self._process is not None and self._process.ready

    def _bound(self, job: _Job) -> None:
        job.timer = asyncio.get_running_loop().call_later(self._timeout, self._late, job)

    def _next(self) -> None:
        """Hand the next body over, if the process is free."""
        if self._current is not None or not self._waiting:
            return
        if self._process is None:
            if self._starting is None:
                self._starting = asyncio.get_running_loop().create_task(self._start())
            return
        if self._process.ready:
            self._current = job = self._waiting.popleft()
            self._process.send(frame(job.head, job.body))

    async def _start(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(_LONGEST_START):
                _, process = await loop.subprocess_exec(
                    lambda: _Process(self._answered, self._gone), *_COMMAND, stderr=None
                )
                self._process = process
                process.send(frame([self._timeout, [each.source for each in self._rules]]))
                await process.begun
        except (OSError, TimeoutError) as error:
            log.error("large requests cannot be validated: the process for it does not start: %s", error or "no answer")  # noqa: TRY400 - the reason is in the message
            self._end_process()
            self._fail_all()
            return
        finally:
            self._starting = None
        for job in self._waiting:
            self._bound(job)
        self._next()

    def _answered(self, answer: list[Any]) -> None:
        job, self._current = self._current, None
        if job is not None:
            job.end(_judgement(answer))
        self._next()

    def _late(self, job: _Job) -> None:
        """The time of a body is up."""
        if job is self._current:
            self._current = None
            self._end_process()
        else:
            self._waiting.remove(job)
        job.end(TOO_LONG)
        self._next()

    def _gone(self, process: "_Process") -> None:
        """The process has ended. Nobody told it to, if it is still ours."""
        if process is not self._process:
            return
        self._process = None
        log.error("the process that validates large requests has died")
        job, self._current = self._current, None
        if job is not None:
            job.end(_NOT_THERE)
        if not process.ready:
            self._fail_all()
        self._next()

    def _end_process(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()

    def _fail_all(self) -> None:
        job, self._current = self._current, None
        waiting = ([job] if job is not None else []) + list(self._waiting)
        self._waiting.clear()
        for each in waiting:
            each.end(_NOT_THERE)


def _judgement(answer: list[Any]) -> BodyJudgement:
    if not answer:
        return BodyJudgement()
    malformed, *faults = answer
    return BodyJudgement([Fault(detail, where) for detail, where in faults], malformed)


class _Process(asyncio.SubprocessProtocol):
    """The pipes to the process. `begun` is done when it has compiled everything, and fails when it ends before."""

    def __init__(self, answered: Callable[[list[Any]], None], gone: "Callable[[_Process], None]") -> None:
        self._answered = answered
        self._gone = gone
        self._received = bytearray()
        self._transport: asyncio.SubprocessTransport
        self.begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.ready = False
        self._ended = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process runs."""
        self._transport = cast(asyncio.SubprocessTransport, transport)

    def send(self, data: bytes) -> None:
        """To its standard input. A process that has just died takes nothing, and `gone` is called soon."""
        pipe = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        if not pipe.is_closing():
            pipe.write(data)

    def kill(self) -> None:
        """End it at once. Nothing is heard of it any more."""
        self.begun.cancel()
        with contextlib.suppress(ProcessLookupError):
            self._transport.kill()
        self._transport.close()

    async def end(self) -> None:
        """End it in order, and wait until it has gone."""
        self.begun.cancel()
        pipe = self._transport.get_pipe_transport(0)
        if pipe is not None:
            pipe.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LONGEST_END):
                await self._ended.wait()
        self.kill()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """A piece of an answer."""
        self._received += data
        while len(self._received) >= LENGTH.size:
            (length,) = LENGTH.unpack_from(self._received)
            end = LENGTH.size + length
            if len(self._received) < end:
                return
            answer = orjson.loads(self._received[LENGTH.size : end])
            del self._received[:end]
            if self.ready:
                self._answered(answer)
            else:
                self.ready = True
                self.begun.set_result(None)

    def pipe_connection_lost(self, fd: int, error: Exception | None) -> None:
        """It ends, or does not read any more, which is as bad."""
        self._lost()

    def process_exited(self) -> None:
        """It has ended."""
        self._ended.set()
        self._lost()

    def _lost(self) -> None:
        if not self.begun.done():
            self.begun.set_exception(ConnectionError("it has ended"))
        self._gone(self)

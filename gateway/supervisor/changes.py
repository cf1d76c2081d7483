"""Changing the configuration of the running service: read, check, start new workers, and only then let the old ones go.

All or nothing: with any problem every worker that serves goes on as it is, and whoever asked gets the reason. The new
workers of all slots are ready before the first of the old ones stops to accept, so there are never fewer than before.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gateway.ipc.channel import CallFailed, ChannelLost
from gateway.supervisor.crew import Crew, StartFailed
from gateway.supervisor.generation import Generation, differences
from gateway.supervisor.process import WorkerProcess

log = logging.getLogger("gateway.supervisor")

_READ = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """What came of it. `problems` are the lines that `gateway check` prints, or why workers did not start; with any of
    them nothing was changed. `differences` are the settings that are other ones now, or would be."""

    problems: Sequence[str] = ()
    differences: Sequence[str] = ()
    notices: Sequence[str] = ()
    done: bool = False

    def plain(self) -> dict[str, Any]:
        """For the channel."""
        return {
            "problems": list(self.problems),
            "differences": list(self.differences),
            "notices": list(self.notices),
            "done": self.done,
        }


def _nothing() -> None:
    """Nobody wants to be told."""


@dataclass(slots=True)
class Changes:
    """One change at a time: whoever holds `turn` makes it. `generations` counts the configurations that were read."""

    crew: Crew
    generations: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _starting: list[WorkerProcess] = field(default_factory=list)

    async def make(
        self, cause: str = "reload", *, dry_run: bool = False, begun: Callable[[], None] = _nothing
    ) -> Change:
        """Read everything anew, and have it take effect unless it is a `dry_run`. `cause` says why workers leave.
        `begun` is called when it is its turn, before anything is read."""
        async with self.turn:
            begun()
            self._starting = []
            try:
                change = await self._make(cause, dry_run=dry_run)
            except StartFailed as failed:
                change = Change([str(failed)])
            finally:
                for worker in self._starting:
                    self.crew.dismiss(worker)
                self._starting = []
            return change

    async def _make(self, cause: str, *, dry_run: bool) -> Change:
        crew = self.crew
        lead = await self._spawn(0)
        facts = await self._read(lead)
        if facts["problems"]:
            return Change(facts["problems"])
        self.generations += 1
        generation = Generation.of(self.generations, facts)
        before = crew.generation
        changed = differences(before.settings, generation.settings) if before is not None else []
        if dry_run:
            return Change(differences=changed, notices=generation.notices)
        try:
            arrangement = crew.sockets.arrange(generation.addresses, generation.workers)
        except OSError as error:
            return _cannot_listen(error, changed)
        settled = False
        try:
            fresh = [lead, *[await self._spawn(slot) for slot in range(1, generation.workers)]]
            reasons = await self._prepare(fresh, generation)
            if reasons or crew.stopping:
                return Change(reasons or ["the service ends"], changed)
            try:
                arrangement.listen()
            except OSError as error:
                return _cannot_listen(error, changed)
            self._starting = []
            crew.install(generation, fresh, cause)
            settled = True
        finally:
            if settled:
                arrangement.settle()
            else:
                arrangement.withdraw()
        return Change((), changed, generation.notices, done=True)

    async def _prepare(self, fresh: Sequence[WorkerProcess], generation: Generation) -> list[str]:
        """Why they cannot serve, each reason once."""
        waiting = (self.crew.prepare(worker, generation, generation.addresses) for worker in fresh)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, StartFailed):
                raise result
        return list(dict.fromkeys(str(result) for result in results if isinstance(result, StartFailed)))

    async def _read(self, lead: WorkerProcess) -> Mapping[str, Any]:
        try:
            async with asyncio.timeout(_READ):
                facts: Mapping[str, Any] = await lead.control.call(
                    "read", {"environ": dict(self.crew.environ), "given": self.crew.given}
                )
        except CallFailed as failed:
            raise StartFailed(f"the configuration could not be read: {failed}") from failed
        except ChannelLost:
            raise StartFailed(f"{lead.name} {await lead.ended()} while it read the configuration") from None
        except TimeoutError:
            raise StartFailed(f"the configuration was not read within {_READ:.0f} s") from None
        return facts

    async def _spawn(self, slot: int) -> WorkerProcess:
        worker = await self.crew.spawn(slot)
        self._starting.append(worker)
        return worker


def _cannot_listen(error: OSError, changed: Sequence[str]) -> Change:
    return Change([f"cannot listen on {error.filename}: {error.strerror}"], changed)

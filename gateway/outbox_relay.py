"""Delivers the messages of the outbox: takes those that are due, sends them, and writes what came of it.

    claim ──▶ send ──┬─ 2xx                              delivered
      ▲              ├─ 410, or the schedule has ended   dead
      │              ├─ any other answer, none           later: after the next pause, or what Retry-After says
      │              └─ held back by the gateway         let go: no attempt was spent
      └── a notice of the journal, or a look from time to time

Each target has a task of its own and a bound of its own, so a slow one takes nothing from the others. A lease lasts
longer than an attempt can, and what could end after its lease is not begun: no two workers send a message at once. A
worker that dies leaves its messages to whoever looks when their leases have ended.

While a target's circuit is open nothing is claimed for it: the first message that is held back says for how long.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final

from gateway import fault_points
from gateway.config.deliver_model import DeliverConfig
from gateway.journal import outbox
from gateway.journal.outbox import Taken
from gateway.journal.port import Journal, JournalUnavailable, Operation
from gateway.outbox.signing import signed_lines
from gateway.proxy.errand import Answered, Outcomes
from gateway.proxy.own_requests import OwnRequest, OwnRequests
from gateway.proxy.topology import Route
from gateway.wire.message.request import RequestError

log = logging.getLogger("gateway.outbox")

# For messages whose pause is over, and for notices that were lost.
_LOOK: Final = 0.5
# Between two looks, however often the journal wakes its listeners.
_LEAST: Final = 0.02
# What a lease lasts beyond the time limit of an attempt: to begin it, and to write what came of it.
_MARGIN: Final = 10.0
# An attempt that would begin later than this after its claim is not begun.
_BEGIN: Final = 5.0
# No answer can put a message off for longer.
_LONGEST_PAUSE: Final = 86_400.0
# Where nothing says for how long a target is held back.
_HELD_BACK: Final = 1.0
_GONE: Final = 410
OUTCOMES: Final = ("delivered", "failed", "unanswered", "held_back", "late")
"""What comes of an attempt, as `outbox_attempts_total` counts it: 2xx, another answer, none, nothing was sent, and a
result that somebody else's lease has made void."""


class Target:
    """The messages of one route."""

    def __init__(self, route: str, upstream: str, config: DeliverConfig) -> None:
        self.route = route
        self.upstream = upstream
        self.config = config
        self.counts = Counter(dict.fromkeys(OUTCOMES, 0))
        self.under_way: set[asyncio.Task[None]] = set()
        self.wake = asyncio.Event()
        self.held_until = 0.0

    @property
    def free(self) -> int:
        """How many more may be under way."""
        return self.config.concurrency - len(self.under_way)


class Relay:
    """Delivers for the routes that have `deliver`."""

    def __init__(self, journal: Journal, requests: OwnRequests, routes: Iterable[Route], rng: random.Random) -> None:
        self.targets = [
            Target(route.name, route.service, route.config.deliver)
            for route in routes
            if route.config.deliver is not None
        ]
        self._journal = journal
        self._requests = requests
        self._rng = rng
        self._process = f"{os.getpid():x}-{random.SystemRandom().getrandbits(64):016x}"
        self._numbers = itertools.count(1)
        self._tasks: list[asyncio.Task[None]] = []
        self._end_listening: Callable[[], None] | None = None

    @property
    def under_way(self) -> int:
        """Deliveries that have begun and not ended."""
        return sum(len(target.under_way) for target in self.targets)

    def start(self) -> None:
        """Begin to deliver."""
        loop = asyncio.get_running_loop()
        self._end_listening = self._journal.listen(outbox.TOPIC, self._woken)
        self._tasks = [loop.create_task(self._run(target)) for target in self.targets]

    async def pause(self) -> None:
        """Begin no more; what is under way goes on. Idempotent."""
        if self._end_listening is not None:
            self._end_listening()
            self._end_listening = None
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """End: what is under way is broken off, and left to others at once. The journal is still open."""
        await self.pause()
        under_way = [task for target in self.targets for task in target.under_way]
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)

    def _woken(self) -> None:
        for target in self.targets:
            target.wake.set()

    async def _run(self, target: Target) -> None:
        while True:
            pause = max(_LOOK, target.held_until - time.monotonic())
            with contextlib.suppress(JournalUnavailable):
                if target.held_until <= time.monotonic() and target.free and await self._take(target):
                    pause = _LEAST
            target.wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await target.wake.wait()
            await asyncio.sleep(_LEAST)

    async def _take(self, target: Target) -> bool:
        """Claim what is due and send it. Whether there was anything."""
        if not await self._journal.read(outbox.any_due(target.route)):
            return False
        began = time.monotonic()
        owner = f"{self._process}-{next(self._numbers)}"
        lease = target.config.timeout + _MARGIN
        # Shielded: what is claimed when this is cancelled has to be let go.
        claim = self._journal.transact(outbox.claim(target.route, owner, lease, target.free))
        try:
            taken = await asyncio.shield(claim)
        except asyncio.CancelledError:
            with contextlib.suppress(JournalUnavailable):
                for each in await claim:
                    await self._journal.transact(outbox.let_go(each.lease))
            raise
        fault_points.reach("outbox.claimed")
        for each in taken:
            task = asyncio.get_running_loop().create_task(self._deliver(target, each, began + _BEGIN))
            target.under_way.add(task)
            task.add_done_callback(lambda done: self._over(target, done))
        return bool(taken)

    def _over(self, target: Target, task: "asyncio.Task[None]") -> None:
        target.under_way.discard(task)
        target.wake.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            # Its lease ends, and it is sent again.
            log.error("a delivery to %s has failed", target.route, exc_info=error, extra={"event": "outbox_error"})

    async def _deliver(self, target: Target, taken: Taken, latest: float) -> None:
        try:
            if time.monotonic() > latest or target.held_until > time.monotonic():
                await self._write(target, taken, outbox.let_go(taken.lease))
                return
            outcome = await self._requests.send(target.upstream, self._request(target, taken))
        except asyncio.CancelledError:
            await self._write(target, taken, outbox.let_go(taken.lease))
            raise
        except RequestError as error:
            target.counts["failed"] += 1
            await self._give_up(target, taken, 0, f"no request can be made of it: {error.detail}")
            return
        fault_points.reach("outbox.sent")
        await self._ended(target, taken, outcome)

    async def _ended(self, target: Target, taken: Taken, outcome: Outcomes) -> None:
        if isinstance(outcome, Answered):
            status, error = outcome.status, f"answered {outcome.status}"
            if 200 <= status < 300:
                target.counts["delivered"] += 1
                if await self._write(target, taken, outbox.delivered(taken.lease, status)):
                    self._log(logging.INFO, "delivered", target, taken, status)
                return
            target.counts["failed"] += 1
        elif outcome.held_back:
            target.counts["held_back"] += 1
            target.held_until = time.monotonic() + (outcome.retry_after or _HELD_BACK)
            await self._write(target, taken, outbox.let_go(taken.lease))
            return
        else:
            status, error = 0, f"{outcome.reason}: {outcome.detail}"
            target.counts["unanswered"] += 1
        schedule = target.config.schedule
        if status == _GONE or taken.attempts >= len(schedule):
            await self._give_up(target, taken, status, error)
            return
        pause = schedule[taken.attempts] * (1.0 + target.config.jitter * self._rng.random())
        pause = max(pause, min(outcome.retry_after or 0.0, _LONGEST_PAUSE))
        if await self._write(target, taken, outbox.later(taken.lease, status, error, pause)):
            self._log(logging.WARNING, "failed", target, taken, status, error)

    async def _give_up(self, target: Target, taken: Taken, status: int, error: str) -> None:
        if await self._write(target, taken, outbox.give_up(taken.lease, status, error)):
            self._log(logging.ERROR, "dead", target, taken, status, error)

    async def _write(self, target: Target, taken: Taken, operation: Operation[bool]) -> bool:
        """Whether the message was still this process's. Without the journal nothing is written: the lease ends, and the
        message is sent again."""
        try:
            held = await asyncio.shield(self._journal.transact(operation))
        except JournalUnavailable:
            return False
        fault_points.reach("outbox.written")
        if not held:
            target.counts["late"] += 1
            self._log(logging.WARNING, "late", target, taken, 0, "somebody else has taken it meanwhile")
        return held

    def _request(self, target: Target, taken: Taken) -> OwnRequest:
        message, config = taken.message, target.config
        signed = signed_lines(message.id, int(time.time()), message.body, config.secrets)
        lines = b'%b%bIdempotency-Key: "%b"\r\n' % (message.headers, signed, message.id.encode())
        correlation_id = message.correlation_id.encode("latin-1")
        return OwnRequest(message.method, message.path, lines, message.body, correlation_id, config.timeout, 0)

    def _log(self, level: int, what: str, target: Target, taken: Taken, status: int, error: str = "") -> None:
        message = taken.message
        log.log(
            level,
            "outbox message %s to %s: %s%s",
            message.id,
            target.route,
            what,
            f" ({error})" if error else "",
            extra={
                "event": f"outbox_{what}",
                "message_id": message.id,
                "target": target.route,
                "attempt": taken.attempts + 1,
                "status": status or None,
                "correlation_id": message.correlation_id,
            },
        )

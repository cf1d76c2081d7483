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
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from typing import Final

from gateway.config.sections.deliver.model import DeliverConfig
from gateway.journal import fault_points, outbox
from gateway.journal.consumer import Consumer, Work
from gateway.journal.outbox import Taken
from gateway.journal.port import Journal, JournalUnavailable, Operation
from gateway.outbox.signing import signed_lines
from gateway.proxy.errands.errand import Answered, Outcomes, Unanswered
from gateway.proxy.errands.own_requests import OwnRequest, OwnRequests, origin_of
from gateway.proxy.routes.topology import Route
from gateway.wire.message.request import RequestError

log = logging.getLogger("gateway.outbox")

# What a lease lasts beyond the time limit of an attempt: to begin it, and to write what came of it.
_MARGIN: Final = 10.0
# An attempt that would begin later than this after its claim is not begun.
_BEGIN: Final = 5.0
# No answer can put a message off for longer.
_LONGEST_PAUSE: Final = 86_400.0
# Where nothing says for how long a target is held back.
_HELD_BACK: Final = 1.0
# For how long a result is kept for a journal that is away, and how often it is tried.
_PATIENCE: Final = 60.0
_WRITE_AGAIN: Final = 0.5
_GONE: Final = 410
OUTCOMES: Final = ("delivered", "failed", "unanswered", "held_back", "late")
"""What comes of an attempt, as `outbox_attempts_total` counts it: 2xx, another answer, none, nothing was sent, and a
result that somebody else's lease has made void."""


class Target:
    """The messages of one route. `consumer` takes them."""

    consumer: Consumer[Taken]

    def __init__(self, route: str, upstream: str, config: DeliverConfig) -> None:
        self.route = route
        self.upstream = upstream
        self.config = config
        self.counts = Counter(dict.fromkeys(OUTCOMES, 0))


class Relay:
    """Delivers for the routes that have `deliver`."""

    def __init__(self, journal: Journal, requests: OwnRequests, routes: Iterable[Route], rng: random.Random) -> None:
        self._journal = journal
        self._requests = requests
        self._rng = rng
        self.targets = [
            self._target(Target(route.name, route.service, route.config.deliver))
            for route in routes
            if route.config.deliver is not None
        ]

    @property
    def under_way(self) -> int:
        """Deliveries that have begun and not ended."""
        return sum(target.consumer.under_way for target in self.targets)

    def start(self) -> None:
        """Begin to deliver."""
        for target in self.targets:
            target.consumer.start()

    async def pause(self) -> None:
        """Begin no more; what is under way goes on. Idempotent."""
        await asyncio.gather(*(target.consumer.pause() for target in self.targets))

    async def stop(self) -> None:
        """End: what is under way is broken off, and left to others at once. The journal is still open."""
        await asyncio.gather(*(target.consumer.stop() for target in self.targets))

    def _target(self, target: Target) -> Target:
        lease = target.config.timeout + _MARGIN
        work = Work(
            "outbox",
            outbox.topic(target.route),
            partial(outbox.any_due, target.route),
            lambda owner, most: outbox.claim(target.route, owner, lease, most),
            lambda taken: outbox.let_go(taken.lease),
            partial(self._deliver, target),
        )
        target.consumer = Consumer(self._journal, work, target.config.concurrency, log)
        return target

    async def _deliver(self, target: Target, taken: Taken, began: float) -> None:
        try:
            now = time.monotonic()
            if now > began + _BEGIN or target.consumer.held_until > now:
                await self._write(target, taken, partial(outbox.let_go, taken.lease))
                return
            outcome = await self._requests.send(target.upstream, self._request(target, taken))
        except asyncio.CancelledError:
            await self._write(target, taken, partial(outbox.let_go, taken.lease), patience=0.0)
            raise
        except RequestError as error:
            target.counts["failed"] += 1
            await self._give_up(target, taken, 0, f"no request can be made of it: {error.detail}")
            return
        except Exception as error:
            # Whatever it is, it may come of the message: its attempts have an end.
            log.exception("a delivery to %s has failed", target.route, extra={"event": "outbox_error"})
            outcome = Unanswered("internal_error", type(error).__name__, None, sent=True)
        fault_points.reach("outbox.sent")
        await self._ended(target, taken, outcome)

    async def _ended(self, target: Target, taken: Taken, outcome: Outcomes) -> None:
        if isinstance(outcome, Answered):
            status, error = outcome.status, f"answered {outcome.status}"
            if 200 <= status < 300:
                target.counts["delivered"] += 1
                if await self._write(target, taken, partial(outbox.delivered, taken, status)):
                    self._log(logging.INFO, "delivered", target, taken, status)
                return
            target.counts["failed"] += 1
        elif outcome.held_back:
            target.counts["held_back"] += 1
            target.consumer.held_until = time.monotonic() + (outcome.retry_after or _HELD_BACK)
            await self._write(target, taken, partial(outbox.let_go, taken.lease))
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
        if await self._write(target, taken, partial(outbox.later, taken, status, error, pause)):
            self._log(logging.WARNING, "failed", target, taken, status, error)

    async def _give_up(self, target: Target, taken: Taken, status: int, error: str) -> None:
        if await self._write(target, taken, partial(outbox.give_up, taken, status, error)):
            self._log(logging.ERROR, "dead", target, taken, status, error)

    async def _write(
        self, target: Target, taken: Taken, write: Callable[[], Operation[bool]], patience: float = _PATIENCE
    ) -> bool:
        """Whether the message was still this process's. Without the journal it is tried again for `patience` seconds:
        if somebody else has taken the message meanwhile, it changes nothing. Without it the message is sent again when
        its lease has ended."""
        until, unsure = time.monotonic() + patience, False
        while True:
            try:
                held = await asyncio.shield(self._journal.transact(write()))
                break
            except JournalUnavailable as why:
                unsure = unsure or why.unsure
                if why.trouble == "closed" or time.monotonic() >= until:
                    return False
            await asyncio.sleep(_WRITE_AGAIN)
        fault_points.reach("outbox.written")
        if not held and unsure:
            # It may well be what this has written itself.
            return False
        if not held:
            target.counts["late"] += 1
            self._log(logging.WARNING, "late", target, taken, 0, "somebody else has taken it meanwhile")
        return held

    def _request(self, target: Target, taken: Taken) -> OwnRequest:
        message, config = taken.message, target.config
        signed = signed_lines(message.id, int(time.time()), message.body, config.secrets)
        origin, headers = origin_of(message.headers)
        lines = b'%b%bIdempotency-Key: "%b"\r\n' % (headers, signed, message.id.encode())
        correlation_id = message.correlation_id.encode("latin-1")
        return OwnRequest(message.method, message.path, lines, message.body, correlation_id, config.timeout, 0, origin)

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

"""The copy of one request on its way to the shadow upstream of its route (`gateway.proxy.destinations.mirror`).

collects ──── the whole request is here ────▶ waits for its turn ──▶ under way ──▶ counted
    └─ too large, or it never becomes whole ─▶ dropped                   └─ out of time, abandoned ─▶ counted
"""

import asyncio
import time
from functools import partial
from typing import Final

from gateway.proxy.answers.refusals import DEFECT
from gateway.proxy.defects import guarded
from gateway.proxy.destinations.mirror import INCOMPLETE, STOPPING, TOO_LARGE, Mirror, UnderWay
from gateway.proxy.errands.errand import Answered, Errand, Outcomes
from gateway.proxy.forward.making import tail_of
from gateway.proxy.forward.target import Target
from gateway.proxy.requests.body import NO_BODY, RequestBody
from gateway.proxy.routes.plan import Plan
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.telemetry.record import LogPart

_LOG_PART: Final = LogPart({})


class Copy(UnderWay):
    """Made when the request of `ticket` is about to be sent."""

    __slots__ = ("_errand", "_mirror", "_over", "_pieces", "_plan", "_received", "_runtime", "_ticket", "_timer")

    def __init__(self, mirror: Mirror, runtime: Runtime, plan: Plan, ticket: Ticket, body: RequestBody) -> None:
        self._mirror = mirror
        self._runtime = runtime
        self._plan = plan
        self._ticket = ticket
        self._pieces: list[bytes] = []
        self._received = 0
        self._over = False
        self._errand: Errand | None = None
        self._timer: asyncio.TimerHandle | None = None
        mirror.under_way.add(self)
        for piece in body.held:
            self.take(piece)
        if self._over:
            return
        if body is NO_BODY or body.done:
            self.complete(body.received)
        else:
            body.copy = self

    # From the body of the request (gateway.proxy.requests.body).

    def take(self, data: bytes) -> None:
        """A piece of the body. HOT."""
        if self._over:
            return
        self._received += len(data)
        if self._received > self._mirror.config.max_body_bytes:
            self._drop(TOO_LARGE)
        else:
            self._pieces.append(data)

    def complete(self, received: int) -> None:
        """All of the body has arrived, `received` bytes. What came after the upstream has answered is not here."""
        if self._over:
            return
        if received != self._received:
            self._drop(INCOMPLETE)
            return
        # The client's own request goes first.
        self._runtime.loop.call_soon(self._begin)

    def incomplete(self) -> None:
        """The rest of the body does not come."""
        if not self._over:
            self._drop(INCOMPLETE)

    # On its way.

    def _begin(self) -> None:
        """The loop calls it, which hears of no defect."""
        guarded(self._ticket, self._send, self._failed)

    def _failed(self) -> None:
        """A defect of the gateway has stopped it."""
        errand = self._errand
        self._drop(DEFECT.reason)
        if errand is not None:
            errand.break_off()

    def _send(self) -> None:
        if self._over:
            return
        runtime, mirror, of = self._runtime, self._mirror, self._ticket
        if runtime.stopping:
            self._drop(STOPPING)
            return
        upstream = mirror.upstream
        now = time.monotonic()
        ticket = Ticket(of.request, of.origin, mirror.account, _LOG_PART, of.own_id, now, of.priority)
        head = self._plan.head_to(of.request, upstream, of.hooked) + mirror.mark + tail_of(runtime, of)
        body, self._pieces = b"".join(self._pieces), []
        most = mirror.config.max_answer_bytes
        target = Target(upstream, head)
        errand = self._errand = Errand(runtime, ticket, target, mirror.chain, body, 0, self._came, most)
        self._timer = runtime.loop.call_later(upstream.total_timeout, self._too_late)
        errand.start()

    def _came(self, came: Outcomes) -> None:
        if isinstance(came, Answered):
            self._mirror.outcomes[f"{came.status // 100}xx"] += 1
        elif came.held_back:
            self._mirror.dropped[came.reason] += 1
        else:
            self._mirror.outcomes[came.reason] += 1
        self._end()

    def _too_late(self) -> None:
        """As `_begin`."""
        self._timer = None
        guarded(self._ticket, partial(self._give_up, "upstream_timeout"), self._failed)

    def abandon(self) -> None:
        if self._errand is None:
            self._drop(STOPPING)
        else:
            self._give_up("abandoned")

    def _give_up(self, outcome: str) -> None:
        errand = self._errand
        if errand is not None and not self._over:
            self._mirror.outcomes[outcome] += 1
            self._end()
            errand.break_off()

    def _drop(self, reason: str) -> None:
        if not self._over:
            self._mirror.dropped[reason] += 1
            self._end()

    def _end(self) -> None:
        self._over = True
        self._pieces = []
        self._errand = None
        self._mirror.under_way.discard(self)
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

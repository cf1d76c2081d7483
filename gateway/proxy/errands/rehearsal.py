"""Calls that never leave the gateway: the circuit and the figures of an upstream see one that has failed, or not.

They go through the gates of the gateway's own requests (bulkhead and circuit), take a probe where the circuit is
half-open, and count as one attempt and one request. The upstream does not hear of them. `/api/test/…` makes them.
"""

import asyncio
import time
from collections.abc import Mapping
from functools import partial
from typing import Final

from gateway.policy.outcome import FAILURE, SUCCESS
from gateway.proxy.answers.refusals import DEFECT, Refusal
from gateway.proxy.errands.own_requests import OwnRequest, parsed
from gateway.proxy.gate import PASS, Chain, Resumption, Wait
from gateway.proxy.gates.passage import Passage
from gateway.proxy.requests.identity import Origin
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import LogPart, RouteAccount

_PATIENCE: Final = 30.0
"""Seconds for which one may wait at a gate."""
_ORIGIN: Final = Origin("", b"", "http")
_REQUEST: Final = parsed(OwnRequest("GET", b"/api/test", b"", b"", b"-", 0.0, 0))


class Rehearsal:
    """Makes them. `chains` are the gates of each upstream, by its name."""

    def __init__(self, runtime: Runtime, chains: Mapping[str, Chain]) -> None:
        self._runtime = runtime
        self._chains = chains
        self._cells = RouteCells()

    async def call(self, upstream: str, *, succeeds: bool) -> bool:
        """One call. False: a gate has refused it."""
        runtime, chain = self._runtime, self._chains[upstream]
        log_part = LogPart(
            {"client": None, "method": "GET", "target": "/api/test", "route": None, "upstream": upstream}
        )
        account = RouteAccount("", upstream, self._cells)
        ticket = Ticket(_REQUEST, _ORIGIN, account, log_part, runtime.ids.new(), time.monotonic())
        admitted = chain.admit(ticket)
        verdict = await _waited(runtime, chain, ticket) if isinstance(admitted, Wait) else admitted
        now = ticket.now = time.monotonic()
        ticket.note("fault", "rehearsal")
        if verdict is not PASS:
            # What protects an upstream has no answers of its own.
            assert isinstance(verdict, Refusal)  # noqa: S101
            chain.leave(ticket, SUCCESS, 0.0)
            ticket.status, ticket.reason = verdict.status, verdict.reason
            runtime.recorder.refused(ticket, verdict, now)
            return False
        ticket.attempts = 1
        ticket.status = 200 if succeeds else 503
        if not succeeds:
            runtime.recorder.attempt_answered_badly(ticket, upstream, 503)
            ticket.answered = True
        outcome = SUCCESS if succeeds else FAILURE
        chain.leave_attempt(ticket, outcome, 0.0)
        chain.leave(ticket, outcome, 0.0)
        runtime.recorder.over(ticket, now)
        return True


async def _waited(runtime: Runtime, chain: Chain, ticket: Ticket) -> Resumption:
    answer: asyncio.Future[Resumption] = asyncio.get_running_loop().create_future()
    failed = partial(answer.set_result, DEFECT)
    passage = Passage(chain, ticket, answer.set_result, lambda: None, failed, runtime.deadlines, _PATIENCE)
    passage.wait()
    try:
        return await answer
    except asyncio.CancelledError:
        passage.abandon()
        raise

"""The outbox: a request is answered with 202 once it is in the journal, and is sent to the upstream later.

The last gate of a route that delivers, in place of bulkhead and circuit: those are asked when the message is sent
(`gateway.outbox_relay`). It lets no request pass.

    body too large        413 `body_too_large`
    too many wait         503 `outbox_full`
    no journal            503 `journal_unavailable`
    in the journal        202, with the id of the message and where its state can be seen

Once a message is on its way to the journal it cannot be taken back: if its client leaves before the answer, it may be
delivered all the same.
"""

import asyncio
import hashlib
import random
import re
from functools import partial
from typing import ClassVar, Final

import orjson

from gateway.config.deliver_model import DeliverConfig
from gateway.identity.withheld import Withheld
from gateway.journal import outbox
from gateway.journal.outbox import Message
from gateway.journal.port import Journal, JournalUnavailable
from gateway.outbox.depth import Depth
from gateway.outbox.ids import MessageIds
from gateway.proxy.gates import WAIT, Gate, Question, Resume, Step, Verdict, step
from gateway.proxy.own_answer import OwnAnswer
from gateway.proxy.refusals import Refusal, jittered
from gateway.proxy.ticket import Ticket

STATUS_PATH: Final = "/api/resilience/outbox"
# Credentials are good for a request, and not for what is sent hours later from a file that others can read. The rest is
# the gateway's to say.
_LEFT_OUT: Final = (
    rb"authorization|cookie2?|content-length|expect|idempotency-key|webhook-(?:id|timestamp|signature)"
    rb"|x-request-id|x-correlation-id|traceparent|tracestate|max-forwards"
)
_FULL_PAUSE: Final = 5.0
OUTCOMES: Final = ("accepted", "too_large", "full", "unavailable")
"""What becomes of a request on a route that delivers, as `outbox_requests_total` counts it."""


class Waiting:
    """A request at the gate; `gone` when it has ended there."""

    __slots__ = ("gone", "resume")

    def __init__(self, resume: Resume) -> None:
        self.resume = resume
        self.gone = False


class DeliverGate(Gate):
    """That of one route. `api_key_header` is the field that API keys may come in, `stripped` the prefix that the route
    takes off. `counts` is by outcome."""

    name: ClassVar[str] = "deliver"

    def __init__(
        self,
        route: str,
        config: DeliverConfig,
        journal: Journal,
        depth: Depth,
        api_key_header: str,
        stripped: bytes,
        withheld: Withheld | None,
        rng: random.Random,
    ) -> None:
        self.counts = dict.fromkeys(OUTCOMES, 0)
        self._route = route
        self._config = config
        self._journal = journal
        self._depth = depth
        self._ids = MessageIds()
        self._stripped = stripped
        self._withheld = withheld
        self._rng = rng
        names = rb"%b|%b" % (_LEFT_OUT, re.escape(api_key_header.encode()))
        self._left_out = re.compile(rb"^(?:%b):[^\r\n]*\r\n" % names, re.IGNORECASE | re.MULTILINE)
        self._order = (
            None
            if config.order_by is None
            else re.compile(
                rb"^%b:[ \t]*([^\r\n]*?)[ \t]*\r?$" % re.escape(config.order_by.encode()), re.IGNORECASE | re.MULTILINE
            )
        )
        most = config.max_message_bytes
        self._too_large = Refusal(
            413, "body_too_large", f"the request body is larger than {most} bytes, the most of a message", close=True
        )

    def check(self, ticket: Ticket) -> Verdict:
        """Refuses what is too large or has no room before its body is read."""
        length = ticket.request.fields.length
        if length is not None and length > self._config.max_message_bytes:
            self.counts["too_large"] += 1
            return self._too_large
        if self._depth.full:
            self.counts["full"] += 1
            return self._full()
        return WAIT

    def start(self, ticket: Ticket, resume: Resume) -> None:
        body = ticket.body
        assert body is not None  # noqa: S101 - a request that waits has an exchange
        ticket.waiting = waiting = Waiting(resume)
        body.collect(self._config.max_message_bytes, partial(self._collected, ticket, waiting))

    def abandon(self, ticket: Ticket) -> None:
        if isinstance(ticket.waiting, Waiting):
            ticket.waiting.gone = True

    def describe(self) -> dict[str, object]:
        """The settings of the route."""
        config = self._config
        return {
            "schedule": list(config.schedule),
            "jitter": config.jitter,
            "timeout": config.timeout,
            "concurrency": config.concurrency,
            "order_by": config.order_by,
            "max_message_bytes": config.max_message_bytes,
            "signed": bool(config.secrets),
        }

    async def explain(self, question: Question) -> Step:
        if self._depth.full:
            full = self._full()
            return step(self.name, "refuse", full.detail, full.status, full.reason, full.retry_after)
        return step(
            self.name, "allow", "It is answered with 202 once it is in the journal, and goes to the upstream then.",
            figures={"pending": self._depth.last.pending, "max_pending": self._depth.max_pending},
        )  # fmt: skip

    def _full(self) -> Refusal:
        detail = "as many messages wait to be delivered as may"
        return Refusal(503, "outbox_full", detail, jittered(_FULL_PAUSE, self._rng))

    def _collected(self, ticket: Ticket, waiting: Waiting, body: bytes | None) -> None:
        if waiting.gone:
            return
        if body is None:
            self.counts["too_large"] += 1
            waiting.resume(self._too_large)
            return
        message = self._message(ticket, body)
        self._depth.added()
        kept = self._journal.transact(outbox.insert(message))
        kept.add_done_callback(partial(self._kept, ticket, waiting, message.id))

    def _kept(self, ticket: Ticket, waiting: Waiting, message_id: str, answer: "asyncio.Future[None]") -> None:
        why = None if answer.cancelled() else answer.exception()
        if why is None and not answer.cancelled():
            self.counts["accepted"] += 1
            ticket.note("message", message_id)
            if not waiting.gone:
                waiting.resume(_accepted(message_id))
            return
        self.counts["unavailable"] += 1
        unsure = not isinstance(why, JournalUnavailable) or why.unsure
        # As when an upstream may have acted on a request: whoever keeps promises about it must know.
        ticket.sent = ticket.sent or unsure
        if not waiting.gone:
            trouble = why.trouble if isinstance(why, JournalUnavailable) else "failed"
            detail = f"the journal cannot be used ({trouble})"
            waiting.resume(Refusal(503, "journal_unavailable", detail, jittered(1.0, self._rng)))

    def _message(self, ticket: Ticket, body: bytes) -> Message:
        request = ticket.request
        lines = request.fields.lines
        if self._withheld is not None:
            lines = self._withheld.without(lines)
        path = request.path[len(self._stripped) :]
        return Message(
            self._ids.new(),
            self._route,
            self._order_key(lines),
            request.method,
            path if path.startswith(b"/") else b"/" + path,
            self._left_out.sub(b"", lines) + ticket.caller_lines + ticket.origin.lines,
            body,
            ticket.correlation_id.decode("latin-1"),
        )

    def _order_key(self, lines: bytes) -> str | None:
        """A hash: the value may be a person's, and may have any bytes."""
        found = None if self._order is None else self._order.search(lines)
        if found is None or not found[1]:
            return None
        return f"{self._route}:{hashlib.sha256(found[1]).hexdigest()}"


def _accepted(message_id: str) -> OwnAnswer:
    path = f"{STATUS_PATH}/{message_id}"
    body = orjson.dumps({"id": message_id, "status": "queued", "statusUrl": path}) + b"\n"
    fields = b"Content-Type: application/json\r\nLocation: %b\r\n" % path.encode()
    return OwnAnswer(202, fields, ("deliver", "accepted"), body)

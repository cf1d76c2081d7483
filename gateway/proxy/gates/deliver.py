"""The outbox: a request is answered with 202 once it is in the journal, and is sent to the upstream later.

What it has in common with other gates that keep requests is in `gateway.proxy.gates.journalled`. The message is sent
by `gateway.outbox.relay`.
"""

import hashlib
import random
import re
from collections.abc import Callable
from typing import ClassVar, Final

import orjson

from gateway.config.sections.deliver.model import DeliverConfig
from gateway.idempotency.claims import Claims
from gateway.identity.withheld import Withheld, spelt
from gateway.journal import outbox
from gateway.journal.depth import Depth
from gateway.journal.ids import RecordIds
from gateway.journal.outbox import Message
from gateway.journal.outbox_backlog import Backlog
from gateway.journal.port import Journal
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.gate import Question, Step, step
from gateway.proxy.gates.journalled import Entry, JournalGate
from gateway.proxy.ticket import Ticket

STATUS_PATH: Final = "/api/resilience/outbox"
# Credentials are good for a request, and not for what is sent hours later from a file that others can read. The rest is
# the gateway's to say. In any spelling: a receiver behind CGI takes `Webhook_Id` for the id by which it drops
# repetitions.
_LEFT_OUT: Final = (
    *("authorization", "cookie", "cookie2", "content-length", "expect", "max-forwards", "idempotency-key"),
    *("webhook-id", "webhook-timestamp", "webhook-signature"),
    *("x-request-id", "x-correlation-id", "traceparent", "tracestate"),
)


class DeliverGate(JournalGate):
    """That of one route. `api_key_header` is the field that API keys may come in, `stripped` the prefix that the route
    takes off."""

    name: ClassVar[str] = "deliver"

    def __init__(
        self,
        route: str,
        config: DeliverConfig,
        journal: Journal,
        depth: Depth[Backlog],
        claims: Claims | None,
        api_key_header: str,
        stripped: bytes,
        withheld: Withheld | None,
        rng: random.Random,
        origin: Callable[[Ticket], bytes],
    ) -> None:
        super().__init__(
            journal,
            depth,
            claims,
            rng,
            config.max_message_bytes,
            f"the request body is larger than {config.max_message_bytes} bytes, the most of a message",
            "outbox_full",
            "as many messages, or bytes of them, wait to be delivered as may",
            origin,
        )
        self._route = route
        self._config = config
        self._ids = RecordIds("msg_")
        self._stripped = stripped
        self._withheld = withheld
        names = b"|".join([spelt(name) for name in (*_LEFT_OUT, api_key_header)])
        self._left_out = re.compile(rb"^(?:%b):[^\r\n]*\r\n" % names, re.IGNORECASE | re.MULTILINE)
        self._order = (
            None
            if config.order_by is None
            else re.compile(rb"^%b:([^\r\n]*)" % re.escape(config.order_by.encode()), re.IGNORECASE | re.MULTILINE)
        )

    def entry(self, ticket: Ticket, body: bytes) -> Entry:
        message = self._message(ticket, body)
        return Entry(message.id, "message", outbox.insert(message), _accepted(message.id), size=message.kept_bytes)

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
        if self.depth.full:
            full = self.full()
            return step(self.name, "refuse", full.detail, full.status, full.reason, full.retry_after)
        return step(
            self.name, "allow", "It is answered with 202 once it is in the journal, and goes to the upstream then.",
            figures={
                "pending": self.depth.pending, "max_pending": self.depth.max_pending,
                "bytes": self.depth.bytes, "max_bytes": self.depth.max_bytes,
            },
        )  # fmt: skip

    def _message(self, ticket: Ticket, body: bytes) -> Message:
        request = ticket.request
        lines = request.fields.lines
        if self._withheld is not None:
            lines = self._withheld.without(lines)
        path, hooked = request.path, ticket.hooked
        if hooked is not None:
            lines, path = hooked.applied(lines), hooked.path
        path = path[len(self._stripped) :]
        return Message(
            self._ids.new(),
            self._route,
            self._order_key(lines),
            request.method,
            path if path.startswith(b"/") else b"/" + path,
            self.origin(ticket)
            + self._left_out.sub(b"", lines)
            + ticket.caller_lines
            + ticket.origin.lines(request.minor),
            body,
            ticket.correlation_id.decode("latin-1"),
        )

    def _order_key(self, lines: bytes) -> str | None:
        """A hash: the value may be a person's, and may have any bytes."""
        found = None if self._order is None else self._order.search(lines)
        value = found[1].strip(b" \t") if found is not None else b""
        return f"{self._route}:{hashlib.sha256(value).hexdigest()}" if value else None


def _accepted(message_id: str) -> OwnAnswer:
    path = f"{STATUS_PATH}/{message_id}"
    body = orjson.dumps({"id": message_id, "status": "queued", "statusUrl": path}) + b"\n"
    fields = b"Content-Type: application/json\r\nLocation: %b\r\n" % path.encode()
    return OwnAnswer(202, fields, ("deliver", "accepted"), body)

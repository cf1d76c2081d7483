"""A ticket: what is known of one request while it is decided and carried, and the account of it when it is over.

Gates read who asks for what (`origin`, `request`, `now`) and write what they decided; the exchange and the forwarder
write what came of it. The recorder makes metrics, error figures and the log line of it.
"""

from gateway.fleet.circuits import Permit
from gateway.idempotency.promise import Promise
from gateway.identity.tenants import Caller, CountedLimit
from gateway.policy.priority import NORMAL
from gateway.policy.token_bucket import Decision
from gateway.proxy.requests.body import RequestBody
from gateway.proxy.requests.hooked import Hooked
from gateway.proxy.requests.identity import Origin
from gateway.telemetry.record import LogPart, Record, RouteAccount
from gateway.wire.message.request import Request


class Ticket(Record):
    """One request.

    `own_id` is the id that the gateway has made for it; `request_id` is the client's where it sent a usable one.
    `started` is when its head had come, `now` the present instant, both of the monotonic clock: whoever has gates
    asked, or leaves them, sets `now` first. `body` is the request's, None until there is an exchange.

    `at` is the gate that did not pass it, or the number of gates, -1 before any was asked; `entered` is how many are
    entered. `waiting` belongs to the gate that it waits at. `rate` is what the rate limit decided, None without one.
    `permit` is the circuit's for the present attempt; when that attempt fails, `answered` says that the upstream itself
    said so, and `reached` that there was a connection at all.

    `caller` is who sends it, as a credential has proved; None where nobody asks for one. `caller_lines` are the header
    lines that tell the upstream. `rates` is what
    its rate limits decided where the route counts by caller; of a refusal only the limit that refused.

    `fallback` is the upstream that the request went on to and the cause, None while it is that of the route.

    `hooked` is what the hooks of its route have made of it, None where there are none.

    `priority` is its class (`gateway.policy.priority`), lowered by its tenant once that is known. `unanswered` says of
    an attempt that failed or was given up that somebody's patience had come to its end, the gateway's or the client's.

    `variant` is the index of the upstream that was chosen for it where its route splits
    (`gateway.proxy.destinations.split`), -1 before and elsewhere.

    `promise` is what a request with an idempotency key has to do with the journal. `sent` says that a byte of the
    request was written to an upstream, in whatever attempt.
    """

    __slots__ = (
        "answered",
        "at",
        "body",
        "caller",
        "caller_lines",
        "client",
        "entered",
        "fallback",
        "hooked",
        "now",
        "origin",
        "own_id",
        "permit",
        "priority",
        "promise",
        "rate",
        "rates",
        "reached",
        "request",
        "sent",
        "started",
        "unanswered",
        "variant",
        "waiting",
    )

    def __init__(
        self,
        request: Request,
        origin: Origin,
        account: RouteAccount,
        log_part: LogPart,
        own_id: bytes,
        now: float,
        priority: int = NORMAL,
    ) -> None:
        fields = request.fields
        request_id = fields.request_id or own_id
        super().__init__(account, log_part, request_id, fields.correlation_id or request_id)
        self.own_id = own_id
        self.request = request
        self.origin = origin
        self.client = origin.client
        self.started = now
        self.now = now
        self.priority = priority
        self.body: RequestBody | None = None
        self.at = -1
        self.entered = 0
        self.waiting: object = None
        self.variant = -1
        self.rate: Decision | None = None
        self.caller: Caller | None = None
        self.caller_lines = b""
        self.rates: list[tuple[CountedLimit, Decision]] | None = None
        self.permit: Permit | None = None
        self.promise: Promise | None = None
        self.fallback: tuple[str, str] | None = None
        self.hooked: Hooked | None = None
        self.sent = False
        self.answered = False
        self.unanswered = False
        self.reached = True

    @property
    def complete(self) -> bool:
        """Whether the whole request has arrived."""
        body = self.body
        return body.done if body is not None else not self.request.has_body

    def __repr__(self) -> str:
        return f"<Ticket {self.request.method} {self.account.name} at={self.at} status={self.status}>"

"""Python hooks of a route that are asked about answers (docs/hooks.md).

They stand between the forwarder and the exchange, so that each of them is called once, for the answer of an upstream
that the client gets: behind all retries and fallbacks, and before whatever the exchange does with it (filters, a copy
that is kept). Interim answers and what the gateway itself says are not shown to them.
"""

from gateway.hooks import ResponseChanges
from gateway.hooks.loading import described, dropped
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.forward.downstream import Downstream
from gateway.proxy.forward.passing_on import PassingOn
from gateway.proxy.gates.hooks import HooksGate
from gateway.proxy.hooks.changes import ChangeError, response_edits
from gateway.proxy.hooks.heads import response_head
from gateway.proxy.hooks.running import CHANGED, PASSED, Point, RunningHook
from gateway.proxy.ticket import Ticket
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.message.response import Response, ResponseError, parse_fields


class HookedDownstream(PassingOn):
    """Made for each request of a route with such hooks, in front of the exchange `to`."""

    __slots__ = ("_gate", "_refusal", "_ticket")

    def __init__(self, to: Downstream, ticket: Ticket, gate: HooksGate) -> None:
        super().__init__(to)
        self._ticket = ticket
        self._gate = gate
        self._refusal: Refusal | None = None

    def respond(self, response: Response) -> None:
        """The head of the answer."""
        response = self._asked(response)
        if self._refusal is None:
            self.to.respond(response)
        else:
            self.to.refuse_answer(self._refusal)

    def respond_whole(self, response: Response, body: bytes, now: float) -> None:
        """HOT."""
        response = self._asked(response)
        if self._refusal is None:
            self.to.respond_whole(response, body, now)
        else:
            self.to.refuse_answer(self._refusal)

    def open_tunnel(self, response: Response, upstream: UpstreamConnection, early: bytes) -> None:
        """The upstream has switched protocols."""
        response = self._asked(response)
        if self._refusal is None:
            self.to.open_tunnel(response, upstream, early)
        else:
            upstream.abort()
            self.to.refuse_answer(self._refusal)

    def _asked(self, response: Response) -> Response:
        """The answer as the hooks want it. Where one has failed and nothing may pass, `_refusal` is what the client
        gets instead. HOT."""
        ticket = self._ticket
        now = self._gate.clock()
        for hook, point in self._gate.responding:
            if now < hook.switch.off_until:
                ticket.now = now
                self._refusal = hook.off(ticket, point)
            else:
                response = self._call(response, hook, point)
            if self._refusal is not None:
                break
        return response

    def _call(self, response: Response, hook: RunningHook, point: Point) -> Response:
        ticket = self._ticket
        hooked = ticket.hooked
        assert hooked is not None  # noqa: S101 - the gate has made it
        head = response_head(ticket, response, hooked.head)
        began = self._gate.clock()
        try:
            result = point.call(head)
        except BaseException as raised:  # noqa: BLE001 - whatever code of others raises ends here
            self._refusal = hook.failed(ticket, point, raised, began, self._gate.clock())
            return response
        ended = self._gate.clock()
        if result is None:
            hook.ended(ticket, point, PASSED, began, ended)
            return response
        try:
            changed = self._changed(response, result)
        except Exception as wrong:  # noqa: BLE001 - it may be of any kind, with attributes of any type
            invalid = wrong if isinstance(wrong, ChangeError) else ChangeError(described(wrong))
            self._refusal = hook.failed(ticket, point, invalid, began, ended)
            return response
        hooked.answer_changed = hooked.answer_changed or changed is not response
        hook.ended(ticket, point, CHANGED, began, ended)
        return changed

    def _changed(self, response: Response, result: object) -> Response:
        """The answer with what a hook wants to have changed. Raises what comes of a result that makes no sense."""
        if not isinstance(result, ResponseChanges):
            dropped(result)
            raise ChangeError(f"{type(result).__name__}, where ResponseChanges or None is meant")
        edits = response_edits(result, self._gate.rules)
        if edits is None:
            return response
        try:
            # Read anew, so that whoever looks at the fields finds what the client gets.
            fields = parse_fields(edits.applied(response.fields.lines) + b"\r\n")
        except ResponseError as error:
            raise ChangeError(str(error)) from None
        return response.with_fields(fields)

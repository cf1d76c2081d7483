"""How an exchange tells its client what has come of a request, and how it ends.

Everything that the exchange has entered is left in `_leave`, which does so exactly once, whatever happens.
"""

import time
from functools import partial

from gateway.policy.outcome import FAILURE, IGNORED, SUCCESS, Outcome
from gateway.proxy import writer
from gateway.proxy.answers.own_answer import OwnAnswer
from gateway.proxy.answers.refusals import DEFECT, Refusal
from gateway.proxy.defects import guarded
from gateway.proxy.forward.downstream import Downstream
from gateway.proxy.forward.retries import Forward
from gateway.proxy.gates.passage import Passage
from gateway.proxy.requests.body import NO_BODY, RequestBody
from gateway.proxy.routes.plan import Plan
from gateway.proxy.runtime import Runtime
from gateway.proxy.ticket import Ticket
from gateway.proxy.writer import StreamedAnswer
from gateway.reasons import UPSTREAM_REASONS
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.message.response import Response
from gateway.wire.ports import Connection
from gateway.wire.tunnel import Tunnel
from gateway.wire.websocket import has_plain_control_frames


class Answering(Downstream):
    """The part of an exchange (`gateway.proxy.exchanges.exchange`) that answers. `responded` says that the head of an
    answer has gone out, `finished` that everything is left."""

    __slots__ = (
        "_answer",
        "_continue_sent",
        "_forward",
        "_passage",
        "_route",
        "body",
        "connection",
        "finished",
        "plan",
        "responded",
        "runtime",
        "ticket",
    )

    def __init__(self, runtime: Runtime, connection: Connection, plan: Plan, ticket: Ticket) -> None:
        self.runtime = runtime
        self.connection = connection
        self.plan = plan
        self.ticket = ticket
        self._route = plan.route
        self.body = ticket.body = (
            RequestBody(runtime.retry_buffer_bytes if plan.keeps_body else 0) if ticket.request.has_body else NO_BODY
        )
        self._forward: Forward | None = None
        self._passage: Passage | None = None
        self._answer: StreamedAnswer | None = None
        self._continue_sent = False
        self.responded = False
        self.finished = False
        if plan.tunnel:
            self._route.tunnels.take(ticket.client, ticket.now)
        runtime.exchanges += 1

    # What the forwarder tells (gateway.proxy.forward.downstream).

    def want_body(self, wanted: bool) -> None:
        """Without a body, and once all of it is here, the connection goes on being read: that is how a client that
        leaves is noticed."""
        if wanted:
            self.connection.resume_reading()
        elif not self.body.done:
            self.connection.pause_reading()

    def waits(self) -> None:
        """A gate is waited for: the body is held, unless the gate wants to have all of it first."""
        if self.finished:
            return
        collecting = self.body.collecting
        if collecting:
            self.send_continue()
        self.want_body(collecting)

    def send_continue(self) -> None:
        """At most once, and only to a client that waits for it and has sent nothing yet (RFC 9110 section 10.1.1)."""
        if self.ticket.request.expect_continue and self.body.received == 0 and not self._continue_sent:
            self._continue_sent = True
            self.connection.write(writer.CONTINUE)

    @property
    def client_blocked(self) -> bool:
        """Whether the client takes nothing of the answer for now."""
        return self.connection.write_blocked

    def informational(self, response: Response) -> None:
        """100 was answered by the gateway itself; HTTP/1.0 knows no 1xx (RFC 9110 section 15.2)."""
        connection = self.connection
        if self.ticket.request.minor and not self.responded and response.status != 100 and not connection.write_blocked:
            writer.interim(connection, response)

    def respond(self, response: Response) -> None:
        """The head of an answer, as the filters of the route change it. It is written with the first piece of the body,
        or when nothing follows for now."""
        filters, ticket = self._route.filters, self.ticket
        self.responded = True
        response = filters.changed(ticket, response)
        ticket.status = response.status
        self._answer = streamed = StreamedAnswer(self.connection, ticket, filters.bodies)
        streamed.head(filters.added(ticket, response), response)

    def respond_body(self, data: bytes) -> None:
        """A piece of the body."""
        assert self._answer is not None  # noqa: S101 - the head comes first
        self._answer.body(data)

    def respond_pause(self) -> None:
        """Nothing more has arrived for now: what was collected is written."""
        if self._answer is not None:
            self._answer.pause()

    def respond_end(self) -> None:
        """The body is complete."""
        streamed = self._answer
        assert streamed is not None  # noqa: S101 - the head comes first
        streamed.end()
        now = time.monotonic()
        # The connection last: it may start the next request at once.
        self._finish(now)
        self.connection.finish(now, keep_alive=streamed.keep_alive)

    def respond_whole(self, response: Response, body: bytes, now: float) -> None:
        """HOT."""
        filters, ticket = self._route.filters, self.ticket
        if filters.bodies:
            self._respond_rewritten(response, body)
            return
        for each in filters.heads:
            response = each.head(ticket, response)
        self.responded = True
        ticket.status = response.status
        ticket.bytes_out = len(body)
        self._finish(now)
        fields = b""
        for each in filters.fields:
            fields += each.fields(ticket, response)
        writer.whole(self.connection, ticket, fields, response, body, now)

    def _respond_rewritten(self, response: Response, body: bytes) -> None:
        """How long the body becomes is not known before the filters have seen all of it."""
        self.respond(response)
        if body:
            self.respond_body(body)
        self.respond_end()

    def truncated(self, reason: str, detail: str) -> None:
        """The client must not take what it got for the whole."""
        self.ticket.note("truncated", detail)
        self.runtime.recorder.broken_off(reason)
        self._break_off(reason)

    def refuse(self, refusal: Refusal) -> None:
        """Answer in place of the upstream. It is recorded first: whoever reads the answer may look at the counters at
        once."""
        ticket = self.ticket
        self.responded = True
        ticket.status = refusal.status
        ticket.reason = refusal.reason
        now = time.monotonic()
        self._leave(FAILURE if refusal.reason in UPSTREAM_REASONS else IGNORED, now)
        template = self.runtime.recorder.refused(ticket, refusal, now)
        # A client that waits for 100 may send its body or not: only closing tells both sides the same.
        unsure = ticket.request.expect_continue and not self.body.done
        fields = self._route.filters.added_to_refusal(ticket)
        writer.refusal(self.connection, ticket, fields, template, now, time.time(), close=refusal.close or unsure)

    def refuse_answer(self, refusal: Refusal) -> None:
        """What is still to come of the upstream's answer is not read."""
        self._cancel()
        self.refuse(refusal)

    def answer_itself(self, content: OwnAnswer) -> None:
        """Answer in place of the upstream with what is no refusal."""
        ticket = self.ticket
        self.responded = True
        now = time.monotonic()
        self._leave(SUCCESS, now)
        self.runtime.recorder.answered(ticket, content, now)
        filters, response = self._route.filters, content.response
        fields = filters.added_to_refusal(ticket) if response is None else filters.added(ticket, response)
        close = ticket.request.expect_continue and not self.body.done
        writer.own(self.connection, ticket, fields, content, now, close=close)

    def substitute(self, content: OwnAnswer) -> None:
        """The answer of the fallback, in place of every upstream's."""
        self.answer_itself(content)

    def may_tunnel(self, response: Response) -> bool:
        """Whether a 101 is the answer to what was asked."""
        return self.plan.tunnel and response.fields.upgrade == b"websocket"

    def open_tunnel(self, response: Response, upstream: UpstreamConnection, early: bytes) -> None:
        """From here on bytes are passed on, not messages."""
        ticket, runtime = self.ticket, self.runtime
        self.responded = True
        ticket.status = 101
        writer.switching(self.connection, ticket, self._route.filters.added(ticket, response), response)
        client, held = self.connection.detach()
        limits = self._route.tunnels.limits
        if not has_plain_control_frames(ticket.request.fields.lines, response.fields.lines):
            limits = limits._replace(ping_interval=float("inf"))
        tunnel = Tunnel(client, upstream.detach(), limits, self._tunnel_closed)
        # A tunnel lives for hours: it has its own cap and does not keep a place that requests wait for.
        ticket.now = now = time.monotonic()
        forward = self._forward
        assert forward is not None  # noqa: S101 - it is the one that calls
        forward.leave(SUCCESS, now)
        runtime.tunnel_opened(tunnel)
        tunnel.start(from_client=held, from_upstream=early)

    def _tunnel_closed(self, tunnel: Tunnel) -> None:
        ticket = self.ticket
        ticket.bytes_in += tunnel.bytes_from_client
        ticket.bytes_out += tunnel.bytes_from_upstream
        ticket.note("tunnel", tunnel.ended_by)
        self._route.tunnels.ended[tunnel.ended_by] += 1
        self.runtime.tunnel_closed(tunnel)
        self._end(SUCCESS, time.monotonic())

    # Ending.

    def failed(self) -> None:
        """A defect of the gateway has stopped it. A client that cannot be answered any more sees its connection
        close."""
        if self.finished:
            self._hang_up()
        else:
            guarded(self.ticket, partial(self._stop, DEFECT), self._hang_up)

    def _hang_up(self) -> None:
        self.connection.break_off(reset=False)
        self._end(IGNORED, time.monotonic())

    def _stop(self, refusal: Refusal) -> None:
        """End it before its time, with a refusal if the client has got nothing yet."""
        self._cancel()
        if self.responded:
            self._break_off(refusal.reason)
        else:
            self.refuse(refusal)

    def _cancel(self) -> None:
        if self._forward is not None:
            self._forward.cancel()

    def _break_off(self, reason: str) -> None:
        """The answer cannot be finished: let the client see that it is truncated."""
        self.ticket.reason = reason
        self.respond_pause()
        self._end(FAILURE if reason in UPSTREAM_REASONS else IGNORED, time.monotonic())
        self.connection.break_off(reset=self._answer is not None and self._answer.until_close)

    def _finish(self, now: float) -> None:
        """The answer has reached the client whole. HOT."""
        ticket = self.ticket
        failed = ticket.answered_badly and ticket.answered_badly == ticket.status
        self._leave(FAILURE if failed else SUCCESS, now)
        self.runtime.recorder.over(ticket, now)

    def _end(self, outcome: Outcome, now: float) -> None:
        """The exchange is over, and is written down."""
        if not self.finished:
            self._leave(outcome, now)
            self.runtime.recorder.over(self.ticket, now)

    def _leave(self, outcome: Outcome, now: float) -> None:
        """Let go of everything. HOT."""
        if self.finished:
            return
        self.finished = True
        self.runtime.exchanges -= 1
        forward, self._forward = self._forward, None  # no cycle is left for the collector
        if self.plan.tunnel:
            self._route.tunnels.give_back(self.ticket.client, now)
        passage, self._passage = self._passage, None
        if passage is not None:
            passage.abandon()
        ticket, body = self.ticket, self.body
        if ticket.entered:
            ticket.now = now
            route = self._route
            if route.fallback is None or forward is None:
                route.chain.leave(ticket, outcome, now - ticket.started)
            else:
                # It may have gone on to the gates of another upstream.
                forward.leave(outcome, now)
        if body is not NO_BODY:
            ticket.bytes_in = body.received
            body.forget()

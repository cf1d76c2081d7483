"""One attempt at an upstream: endpoint, connection, send (`gateway.proxy.forward.sending`), wait for the head, then the
body of the answer.

How it ended is settled exactly once, with the gates that are passed for each attempt (the circuit), the endpoint and
the recorder. Whether another attempt follows is its owner's decision.

Deadlines. The head of the answer has `attempt_timeout`, counted from the last time that the request body moved. The
body of the answer may be silent for `idle_timeout`.
"""

import time
from functools import partial
from typing import Final

from gateway.policy.outcome import FAILURE, IGNORED, SUCCESS
from gateway.proxy.defects import caught, guarded
from gateway.proxy.forward.crossing import ended_idle_connection
from gateway.proxy.forward.sending import NEVER, TAKEN_AT_ONCE, Sending
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.client.response_sink import Loss
from gateway.wire.message.response import Response

_LOSS_REASONS: Final = {
    Loss.RESET: "upstream_unreachable",
    Loss.PROTOCOL: "upstream_protocol_error",
    Loss.TRUNCATED: "upstream_truncated",
}


class Attempt(Sending):
    """From `start` to its end."""

    __slots__ = ()

    def __repr__(self) -> str:
        sent = "sent" if self.request_sent else "new"
        state = "settled" if self._settled else "streaming" if self.streaming else sent
        return f"<Attempt {self.endpoint.label} {state}>"

    def cancel(self, *, client_left: bool) -> None:
        """The client has gone, or its request turned out to be broken. In itself that says nothing about the upstream;
        how long a client has waited before it left may."""
        connection = self._connection
        now = time.monotonic()
        if client_left and connection is not None and self._owner.body.done:
            self._left_waiting(now)
        self._settle(IGNORED, now)
        self.end()
        if connection is not None:
            connection.abort()

    def lose(self, now: float) -> None:
        """Another attempt at the same request has the answer (`gateway.proxy.forward.hedging`)."""
        connection = self._connection
        if connection is not None:
            self._unwanted(now)
        self._settle(IGNORED, now)
        self.end()
        if connection is not None:
            connection.abort()

    def expire(self, now: float) -> None:
        """The deadline has passed (gateway.wire.deadlines)."""
        owner = self._owner
        guarded(owner.ticket, partial(self._expired, now), owner.downstream.failed)

    def _expired(self, now: float) -> None:
        connection = self._connection
        if self.streaming:
            if connection is not None:
                connection.abort()
            self._truncated("the response body stood still", FAILURE)
            return
        if connection is not None:
            unsent = connection.unsent if self._owner.body.received > TAKEN_AT_ONCE else 0
            if unsent >= 0 and unsent != self._unsent:
                # The upstream is still taking the request, more slowly than the loop notices.
                self._moved(now)
                return
            if now < self._due:
                self._look_later(now)
                return
            connection.abort()
        elif self._waiter is not None and self.endpoint.pool.full:
            self._no_connection("every connection it may have is busy", now)
            return
        self._failed("timeout", "upstream_timeout", "no answer in time", None)

    def pause_response(self) -> None:
        """The client takes no more of the answer for now."""
        self._paused = True
        if self._connection is not None and self.streaming:
            self._connection.pause_reading()
            self.deadline = NEVER

    def resume_response(self) -> None:
        """The client takes more of the answer."""
        if self._paused:
            self._paused = False
            if self._connection is not None and self.streaming:
                self.deadline = time.monotonic() + self._owner.target.upstream.idle_timeout
                self._connection.resume_reading()

    # The answer (gateway.wire.client.response_sink.ResponseSink).

    def informational(self, response: Response) -> None:
        """A 1xx other than 101."""
        self._owner.downstream.informational(response)

    def response_head(self, response: Response) -> None:
        """The head of an answer with a body. It goes to the client unless another attempt follows."""
        now = time.monotonic()
        self._head_at = now
        owner = self._owner
        if response.status >= 400 and self._passed_over(response, self._connection, now):
            return
        upstream = owner.target.upstream
        status = response.status
        if status >= 400 and status in upstream.failure_statuses:
            self._answered_badly(status, now)
        elif self.probe:
            # A probe has told what it was sent for; its lease does not wait for a long body.
            self._settle(SUCCESS, now)
        self.streaming = True
        if status >= 300 and not owner.body.done:
            self._stop_body()
        self.deadline = now + upstream.idle_timeout
        owner.downstream.respond(response)
        if owner.downstream.client_blocked:
            self.pause_response()

    def response_body(self, data: bytes) -> None:
        """A piece of the body."""
        owner = self._owner
        self.deadline = NEVER if self._paused else time.monotonic() + owner.target.upstream.idle_timeout
        owner.downstream.respond_body(data)

    def response_pause(self) -> None:
        """No more of the body for now."""
        self._owner.downstream.respond_pause()

    def response_whole(self, response: Response, body: bytes) -> None:
        """HOT."""
        connection, self._connection = self._connection, None  # already back in its pool, or closed
        now = time.monotonic()
        self._head_at = now
        owner = self._owner
        if response.status >= 400 and self._passed_over(response, connection, now):
            return
        status = response.status
        if status >= 400 and status in owner.target.upstream.failure_statuses:
            self._answered_badly(status, now)
        else:
            self._settle(SUCCESS, now)
        owner.ended()
        downstream = owner.downstream
        try:
            downstream.respond_whole(response, body, now)
        except Exception as defect:  # noqa: BLE001 - the connection has left the request, and would not end it
            caught(owner.ticket, defect)
            downstream.failed()

    def response_end(self) -> None:
        """The body is complete: the attempt was a success, unless its status has said otherwise."""
        self._settle(SUCCESS, time.monotonic())
        owner = self._owner
        owner.ended()
        guarded(owner.ticket, owner.downstream.respond_end, owner.downstream.failed)

    def switched(self, response: Response, early: bytes) -> None:
        """101: the connection becomes a tunnel, if that is what was asked for; otherwise the attempt has failed."""
        connection = self._connection
        now = time.monotonic()
        self._head_at = now
        owner = self._owner
        if connection is None or not owner.downstream.may_tunnel(response):
            if connection is not None:
                connection.abort()
            self._failed("protocol", "upstream_protocol_error", "a switch of protocols that was not asked for", None)
            return
        self._settle(SUCCESS, now)
        owner.ended()
        owner.downstream.open_tunnel(response, connection, early)

    def upstream_lost(self, loss: Loss, detail: str) -> None:
        """The connection broke. The attempt has failed; within the body of an answer, the answer breaks off."""
        owner = self._owner
        connection = self._connection
        if self.streaming:
            # An upstream that does not want an upload may close at once. The reset that this makes takes from us what
            # had not left its kernel, and is no sign of an upstream that fails. Whether it had read all of a large body
            # is not to be known: the kernels' buffers may hold megabytes of it.
            large = owner.body.received > TAKEN_AT_ONCE and owner.ticket.status >= 300
            self._truncated(detail, IGNORED if self._body_stopped or large else FAILURE)
            return
        reset = loss is Loss.RESET
        self._failed(
            "reset" if reset else "protocol",
            _LOSS_REASONS[loss],
            detail,
            "connection_terminated" if reset else None,
            stale=reset and connection is not None and connection.reused,
        )

    def _passed_over(self, response: Response, connection: UpstreamConnection | None, now: float) -> bool:
        """Whether an answer of 400 or more is not the one for the client: another attempt follows, or it was none."""
        status = response.status
        owner = self._owner
        if (
            status == 408
            and connection is not None
            and owner.body.done
            and ended_idle_connection(response, connection, now - self._sent_at)
        ):
            if self._connection is not None:
                self._connection.abort()
            detail = "a 408 that ended an idle connection crossed with the request"
            self._failed("reset", "upstream_unreachable", detail, "connection_terminated", stale=True)
            return True
        retry = owner.retry_after(response, now)
        if retry is None:
            return False
        connection = self._connection
        if status in owner.target.upstream.failure_statuses:
            self._answered_badly(status, now)
        else:
            # Worth another attempt, but no failure of the upstream: 429, for one.
            self._settle(SUCCESS, now)
        if connection is not None:
            connection.discard()
        owner.again(retry)
        return True

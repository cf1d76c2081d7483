"""One attempt at an upstream: endpoint, connection, send, wait for the head, then the body of the answer.

How it ended is settled exactly once, with the gates that are passed for each attempt (the circuit), the endpoint and
the recorder. Whether another attempt follows is its owner's decision.

Deadlines. The head of the answer has `attempt_timeout`, counted from the last time that the request body moved, so that
an upload may take its time. While only the client can move the body, its connection keeps the time. The body of the
answer may be silent for `idle_timeout`.
"""

import time
from functools import partial
from typing import Final

from gateway.policy.outcome import FAILURE, IGNORED, SUCCESS
from gateway.proxy.defects import caught, guarded
from gateway.proxy.forward.crossing import ended_idle_connection
from gateway.proxy.forward.ending import Ending
from gateway.proxy.forward.owner import Owner
from gateway.proxy.upstreams.upstream import Endpoint
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.client.pool import ConnectFailure, Waiter
from gateway.wire.client.response_sink import Loss
from gateway.wire.message.chunked import LAST_CHUNK, encode_chunk
from gateway.wire.message.response import Response

_NEVER: Final = float("inf")
# The kernels' buffers take this much of a request body at once. Beyond it, an upstream that reads slowly is noticed.
_TAKEN_AT_ONCE: Final = 65_536
# How often within `attempt_timeout` it is looked whether the upstream still takes what lies in the kernels' buffers:
# from when it has taken the last of it, it has that time for the answer.
_LOOKS: Final = 4
_LOSS_REASONS: Final = {
    Loss.RESET: "upstream_unreachable",
    Loss.PROTOCOL: "upstream_protocol_error",
    Loss.TRUNCATED: "upstream_truncated",
}


class Attempt(Ending):
    """`deadline` is an instant of the monotonic clock (gateway.wire.deadlines). `request_sent` says that a byte of the
    request was written to a connection, `streaming` that the head of the answer has gone to the client."""

    __slots__ = (
        "_body_stopped",
        "_chunked",
        "_connection",
        "_due",
        "_paused",
        "_unsent",
        "_waiter",
        "deadline",
        "probe",
        "request_sent",
        "streaming",
    )

    def __init__(self, owner: Owner, endpoint: Endpoint, now: float) -> None:
        self._owner = owner
        self.endpoint = endpoint
        self._sent_at = now
        self._head_at = 0.0
        self._reached = False
        self._settled = False
        self._chunked = owner.ticket.request.fields.chunked
        permit = owner.ticket.permit
        self.probe = permit is not None and permit.probe
        self._connection: UpstreamConnection | None = None
        self._waiter: Waiter | None = None
        self._unsent = 0
        self._due = 0.0
        self._body_stopped = False
        self._paused = False
        self.request_sent = False
        self.streaming = False
        self.deadline = min(owner.total_deadline, now + owner.target.upstream.attempt_timeout)

    def __repr__(self) -> str:
        sent = "sent" if self.request_sent else "new"
        state = "settled" if self._settled else "streaming" if self.streaming else sent
        return f"<Attempt {self.endpoint.label} {state}>"

    def start(self, *, fresh: bool) -> None:
        """Get a connection and send the request. With `fresh` none is taken from the pool: the connection of the
        attempt before had died of old age, and its siblings are as old. A probe gets one of its own, too."""
        owner = self._owner
        owner.runtime.deadlines.add(self)
        pool = self.endpoint.pool
        connection = None if fresh or self.probe else pool.take()
        if connection is not None:
            self._send(connection)
        else:
            owner.downstream.want_body(False)
            self._waiter = pool.request(self._connected)

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

    def end(self) -> None:
        """Let go of everything. Idempotent."""
        self._connection = None
        self._owner.runtime.deadlines.discard(self)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.cancel()

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
            unsent = connection.unsent if self._owner.body.received > _TAKEN_AT_ONCE else 0
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

    # The request body.

    def body(self, data: bytes) -> None:
        """A piece has arrived from the client. HOT."""
        body = self._owner.body
        connection = self._connection
        if self._body_stopped:
            return
        if connection is None:
            body.hold(data)
            self._owner.downstream.want_body(False)
            return
        body.pass_on(data)
        self._moved(time.monotonic())
        connection.write(encode_chunk(data) if self._chunked else data)

    def body_end(self) -> None:
        """All of it has arrived."""
        connection = self._connection
        if connection is not None and not self._body_stopped:
            self._moved(time.monotonic())
            if self._chunked:
                connection.write(LAST_CHUNK)
            connection.end_request()

    def pause_response(self) -> None:
        """The client takes no more of the answer for now."""
        self._paused = True
        if self._connection is not None and self.streaming:
            self._connection.pause_reading()
            self.deadline = _NEVER

    def resume_response(self) -> None:
        """The client takes more of the answer."""
        if self._paused:
            self._paused = False
            if self._connection is not None and self.streaming:
                self.deadline = time.monotonic() + self._owner.target.upstream.idle_timeout
                self._connection.resume_reading()

    def _moved(self, now: float) -> None:
        """The request body has moved. While the client is the one to be waited for, its connection keeps the time."""
        owner = self._owner
        upstream = owner.target.upstream
        connection = self._connection
        owner.total_deadline = now + owner.total_timeout
        if connection is not None and owner.body.received > _TAKEN_AT_ONCE:
            self._unsent = connection.unsent
        if not self.streaming:
            self._sent_at = now
            on_client = not owner.body.done and connection is not None and not connection.write_blocked
            if on_client:
                self.deadline = _NEVER
            else:
                self._due = self.deadline = now + upstream.attempt_timeout
                if self._unsent > 0:
                    self._look_later(now)

    def _look_later(self, now: float) -> None:
        self.deadline = min(self._due, now + self._owner.target.upstream.attempt_timeout / _LOOKS)

    # The connection.

    def _connected(self, result: UpstreamConnection | ConnectFailure) -> None:
        self._waiter = None
        if isinstance(result, UpstreamConnection):
            # Waiting for a place in our own pool is not the upstream's time.
            now = time.monotonic()
            owner = self._owner
            self._sent_at = now
            self.deadline = min(owner.total_deadline, now + owner.target.upstream.attempt_timeout)
            self._send(result)
        elif result is ConnectFailure.TIMEOUT:
            self._failed("connect", "upstream_timeout", "no connection in time", result.value)
        elif result is ConnectFailure.LOCAL:
            self._lacking()
        else:
            self._reached = result.reached
            self._failed("connect", "upstream_unreachable", "no connection", result.value)

    def _send(self, connection: UpstreamConnection) -> None:
        owner = self._owner
        body, request = owner.body, owner.ticket.request
        self._connection = connection
        self.request_sent = self._reached = owner.ticket.sent = True
        connection.send(self, owner.head, to_head=request.method == "HEAD", more=not body.done)
        if not request.has_body:
            return
        for data in body.held:
            connection.write(encode_chunk(data) if self._chunked else data)
        if body.done:
            if self._chunked:
                # Once: a gate that has held the body lets it go at its end, and `body_end` still follows.
                self._chunked = False
                connection.write(LAST_CHUNK)
            body.sent()
            return
        body.sent()
        self._moved(time.monotonic())
        owner.downstream.send_continue()
        if not connection.write_blocked:
            owner.downstream.want_body(True)

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
        self.deadline = _NEVER if self._paused else time.monotonic() + owner.target.upstream.idle_timeout
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
            large = owner.body.received > _TAKEN_AT_ONCE and owner.ticket.status >= 300
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

    def request_blocked(self) -> None:
        """The upstream takes no more of the request for now, so no more is read from the client."""
        self._owner.downstream.want_body(False)
        if not self.streaming:
            self.deadline = time.monotonic() + self._owner.target.upstream.attempt_timeout

    def request_ready(self) -> None:
        """The upstream takes more of the request."""
        self._moved(time.monotonic())
        self._owner.downstream.want_body(True)

    def _stop_body(self) -> None:
        """An answer that is no success came before the end of the request: no more of it is sent."""
        self._body_stopped = True
        self._owner.downstream.want_body(True)

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

"""The request of an attempt: it waits for a connection, and is sent with its body as that arrives.

An upload may take its time: `deadline` counts from the last time that the request body moved. While only the client can
move the body, its connection keeps the time.
"""

import time
from functools import partial
from typing import Final

from gateway.proxy.defects import guarded
from gateway.proxy.forward.ending import Ending
from gateway.proxy.forward.owner import Owner
from gateway.proxy.upstreams.upstream import Endpoint
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.client.pool import ConnectFailure, Waiter
from gateway.wire.message.chunked import LAST_CHUNK, encode_chunk

NEVER: Final = float("inf")
"""The deadline of an attempt that waits for the client alone."""

TAKEN_AT_ONCE: Final = 65_536
"""The kernels' buffers take so much of a request body at once. Beyond it, an upstream that reads slowly is noticed."""

# How often within `attempt_timeout` it is looked whether the upstream still takes what lies in the kernels' buffers:
# from when it has taken the last of it, it has that time for the answer.
_LOOKS: Final = 4


class Sending(Ending):
    """The part of an attempt (`gateway.proxy.forward.attempt`) that sends the request. `deadline` is an instant of the
    monotonic clock (gateway.wire.deadlines). `request_sent` says that a byte of the request was written to a
    connection, `streaming` that the head of the answer has gone to the client."""

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

    def end(self) -> None:
        """Let go of everything. Idempotent."""
        self._connection = None
        self._owner.runtime.deadlines.discard(self)
        waiter, self._waiter = self._waiter, None
        if waiter is not None:
            waiter.cancel()

    def expire(self, now: float) -> None:
        """The deadline has passed (gateway.wire.deadlines)."""
        raise NotImplementedError

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

    def _moved(self, now: float) -> None:
        """The request body has moved. While the client is the one to be waited for, its connection keeps the time."""
        owner = self._owner
        upstream = owner.target.upstream
        connection = self._connection
        owner.total_deadline = now + owner.total_timeout
        if connection is not None and owner.body.received > TAKEN_AT_ONCE:
            self._unsent = connection.unsent
        if not self.streaming:
            self._sent_at = now
            on_client = not owner.body.done and connection is not None and not connection.write_blocked
            if on_client:
                self.deadline = NEVER
            else:
                self._due = self.deadline = now + upstream.attempt_timeout
                if self._unsent > 0:
                    self._look_later(now)

    def _look_later(self, now: float) -> None:
        self.deadline = min(self._due, now + self._owner.target.upstream.attempt_timeout / _LOOKS)

    # The connection.

    def _connected(self, result: UpstreamConnection | ConnectFailure) -> None:
        """The pool calls, which does not know whose connection it is."""
        self._waiter = None
        owner = self._owner
        guarded(owner.ticket, partial(self._begin, result), owner.downstream.failed)

    def _begin(self, result: UpstreamConnection | ConnectFailure) -> None:
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

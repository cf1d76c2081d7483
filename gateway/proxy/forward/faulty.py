"""Attempts that a fault has struck (`gateway.proxy.upstreams.faults`): one class for each kind.

A fault is put in at the seam to the wire client. Circuit, retries, budgets, figures and the client see what they would
see of an upstream that behaves so, with the same time limits and the same reasons:

    delay             the request is sent, and the answer is read later
    abort             the upstream answers with a status of 4xx or 5xx; it is not asked
    reset             it closes the connection before any answer; it is not asked
    connect_timeout   no connection comes about within its connect timeout; none is tried
    truncate          its answer breaks off within the body
    slow_body         the body of its answer comes at a bounded rate

What a fault has touched says so: in the log line of the request (decision `fault`), in the detail of errors, and in
`Proxy-Status` of an answer.
"""

import asyncio
import json
from collections.abc import Callable
from typing import Final

from gateway.proxy.defects import guarded
from gateway.proxy.forward.attempt import Attempt
from gateway.proxy.forward.owner import Owner
from gateway.proxy.forward.sending import NEVER
from gateway.proxy.upstreams.faults import Armed, UpstreamFaults
from gateway.proxy.upstreams.upstream import Endpoint
from gateway.wire.client.connection import UpstreamConnection
from gateway.wire.client.response_sink import Loss
from gateway.wire.message.response import Response, phrase_of
from gateway.wire.message.response_head_reader import ResponseHeadReader

# How much of a body gets through before it breaks off, or half of a piece that is shorter.
_BEFORE_THE_CUT: Final = 1024
# From one piece of a slow body to the next.
_TICK: Final = 0.1


def attempt_with_faults(owner: Owner, endpoint: Endpoint, faults: UpstreamFaults, now: float) -> Attempt:
    """An attempt at an upstream that has faults, struck by one of them or not."""
    armed = faults.strike(owner.ticket, endpoint.label, now)
    if armed is None:
        return Attempt(owner, endpoint, now)
    kind = armed.fault.kind
    if kind == "delay":
        return Delayed(owner, endpoint, now, faults, armed)
    if kind == "abort":
        return Aborted(owner, endpoint, now, faults, armed)
    if kind == "reset":
        return Reset(owner, endpoint, now, faults, armed)
    if kind == "connect_timeout":
        return Unconnected(owner, endpoint, now, faults, armed)
    if kind == "truncate":
        return Truncated(owner, endpoint, now, faults, armed)
    return Slow(owner, endpoint, now, faults, armed)


class Struck(Attempt):
    """What all of them have in common."""

    __slots__ = ("_armed", "_faults", "_over", "_timer")

    def __init__(self, owner: Owner, endpoint: Endpoint, now: float, faults: UpstreamFaults, armed: Armed) -> None:
        super().__init__(owner, endpoint, now)
        self._faults = faults
        self._armed = armed
        self._over = False
        self._timer: asyncio.TimerHandle | None = None

    def end(self) -> None:
        """Let go of everything. Idempotent."""
        self._over = True
        self._stop_timer()
        super().end()

    def response_head(self, response: Response) -> None:
        """The head of an answer of the upstream, which says that a fault has struck."""
        super().response_head(self._marked(response))

    def _injected(self) -> None:
        fault = self._armed.fault
        self._faults.injected(fault)
        self._owner.ticket.note("fault", fault.name)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._owner.runtime.loop.call_later(seconds, self._due_now, call)

    def _due_now(self, call: Callable[[], None]) -> None:
        self._timer = None
        owner = self._owner
        guarded(owner.ticket, call, owner.downstream.failed)

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _detail(self, what: str) -> str:
        return f"{what} (fault {self._armed.fault.id})"

    def _marked(self, response: Response) -> Response:
        return response.with_head(response.head + self._armed.line)

    def _not_sent(self) -> None:
        """The upstream is not asked, and everything is as if it were."""
        owner = self._owner
        self.request_sent = self._reached = owner.ticket.sent = True
        owner.runtime.deadlines.add(self)
        self._injected()
        self._want_body()

    def _want_body(self) -> None:
        owner = self._owner
        if not owner.body.done:
            owner.downstream.send_continue()
            owner.downstream.want_body(True)


class Delayed(Struck):
    """The answer is not read for a while."""

    __slots__ = ("_late",)

    def __init__(self, owner: Owner, endpoint: Endpoint, now: float, faults: UpstreamFaults, armed: Armed) -> None:
        super().__init__(owner, endpoint, now, faults, armed)
        self._late: UpstreamConnection | None = None

    def _send(self, connection: UpstreamConnection) -> None:
        super()._send(connection)
        self._injected()
        self._late = connection
        connection.pause_reading()
        self._later(self._armed.fault.delay, self._go_on)

    def _go_on(self) -> None:
        connection, self._late = self._late, None
        # Nothing was read of it, so it carries this request still, unless the attempt has ended.
        if connection is not None and self._connection is not None:
            connection.resume_reading()

    def response_whole(self, response: Response, body: bytes) -> None:
        super().response_whole(self._marked(response), body)


class Aborted(Struck):
    """An answer that the upstream has not given."""

    __slots__ = ()

    def start(self, *, fresh: bool) -> None:
        self._not_sent()
        # Not from within the call that makes the attempt: no answer is ever there so soon.
        self._later(0.0, self._answer)

    def _answer(self) -> None:
        self._want_body()
        response, body = _answer(self._armed, to_head=self._owner.ticket.request.method == "HEAD")
        self.response_whole(response, body)


class Reset(Struck):
    """The upstream closes the connection before its answer."""

    __slots__ = ()

    def start(self, *, fresh: bool) -> None:
        self._not_sent()
        self._later(0.0, self._break)

    def _break(self) -> None:
        self._want_body()
        self.upstream_lost(Loss.RESET, self._detail("the connection closed before a response"))


class Unconnected(Struck):
    """No connection comes about."""

    __slots__ = ()

    def start(self, *, fresh: bool) -> None:
        owner = self._owner
        owner.runtime.deadlines.add(self)
        owner.downstream.want_body(False)
        self._injected()
        self._later(owner.target.upstream.config.connect_timeout, self._give_up)

    def _give_up(self) -> None:
        self._failed("connect", "upstream_timeout", self._detail("no connection in time"), "connection_timeout")


class Truncated(Struck):
    """The body of the answer breaks off. An answer without a body comes as it is."""

    __slots__ = ()

    def response_whole(self, response: Response, body: bytes) -> None:
        if not body:
            super().response_whole(response, body)
            return
        # It is back in its pool already, or closed.
        self._connection = None
        self.response_head(response)
        if self.streaming and not self._over:
            self.response_body(body)

    def response_body(self, data: bytes) -> None:
        connection = self._connection
        super().response_body(data[: min(_BEFORE_THE_CUT, len(data) // 2)])
        if self._over:
            return
        self._injected()
        if connection is not None:
            connection.abort()
        self.upstream_lost(Loss.TRUNCATED, self._detail("the connection closed within the response body"))


class Slow(Struck):
    """The body of the answer comes at `rate` bytes a second. What has arrived of it waits here: what a tick passes on,
    and one read more. With `_whole` no more will come, and the connection is somebody else's."""

    __slots__ = ("_size", "_touched", "_waiting", "_whole")

    def __init__(self, owner: Owner, endpoint: Endpoint, now: float, faults: UpstreamFaults, armed: Armed) -> None:
        super().__init__(owner, endpoint, now, faults, armed)
        self._size = max(1, round(armed.fault.rate * _TICK))
        self._waiting = b""
        self._whole = False
        self._touched = False

    def response_whole(self, response: Response, body: bytes) -> None:
        if not body:
            super().response_whole(response, body)
            return
        self._connection = None
        self.response_head(response)
        if self.streaming and not self._over:
            self.response_body(body)
            self.response_end()

    def response_body(self, data: bytes) -> None:
        if not self._touched:
            self._touched = True
            self._injected()
        self._waiting += data
        if self._connection is not None and len(self._waiting) >= self._size:
            self._connection.pause_reading()
        if self._timer is None and not self._paused:
            self._later(_TICK, self._tick)

    def response_end(self) -> None:
        if not self._waiting:
            super().response_end()
            return
        self._whole = True
        self._connection = None
        if not self._owner.body.done:
            self._stop_body()

    def pause_response(self) -> None:
        """The client takes no more of the answer for now."""
        super().pause_response()
        self._stop_timer()
        if self.streaming:
            self.deadline = NEVER

    def resume_response(self) -> None:
        """The client takes more of the answer: what waits here first."""
        if not self._waiting:
            super().resume_response()
        elif self._paused:
            self._paused = False
            self._later(_TICK, self._tick)

    def _tick(self) -> None:
        size = self._size
        piece, self._waiting = self._waiting[:size], self._waiting[size:]
        super().response_body(piece)
        if self._over:
            return
        super().response_pause()
        waiting = len(self._waiting)
        if waiting and not self._paused:
            # One byte is the least, so a rate below ten a second has longer pauses.
            self._later(max(_TICK, len(piece) / self._armed.fault.rate), self._tick)
        if self._whole:
            if not waiting:
                super().response_end()
        elif self._connection is not None and waiting < size and not self._paused:
            self._connection.resume_reading()


def _answer(armed: Armed, *, to_head: bool) -> tuple[Response, bytes]:
    """The answer of an upstream that refuses, and says that it was asked to."""
    fault = armed.fault
    problem = {
        "type": "about:blank",
        "title": phrase_of(fault.status).decode(),
        "status": fault.status,
        "detail": f"This failure was asked for: fault {fault.id}.",
        "fault": fault.id,
    }
    body = json.dumps(problem).encode() + b"\n"
    head = b"HTTP/1.1 %d %b\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n%b\r\n" % (
        *(fault.status, phrase_of(fault.status), len(body)),
        armed.line,
    )
    found = ResponseHeadReader().read(head, to_head)
    assert found is not None  # noqa: S101 - the head is complete
    return found[0], b"" if to_head else body

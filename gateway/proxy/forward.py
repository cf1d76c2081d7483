"""The way to the upstream and back: attempts, and the only retry loop.

Each attempt: circuit, endpoint, connection, send, wait for the head. How it ended is settled exactly once, with the
circuit, the endpoint and the metrics. Whether another follows is decided by one predicate
(`gateway.policy.retry.next_delay`) from a record of plain facts. Once the head of an answer goes to the client there
is no way back.

Deadlines. An attempt has `attempt_timeout` up to the response head; all of them and the pauses between have
`total_timeout`. Both count from the last time that the request body moved, so that an upload may take its time; the
body of the response may be silent for `idle_timeout`.

The request body is kept for a repetition while it fits `retry_buffer_bytes` and the request may be repeated at all;
beyond that it streams."""

import asyncio
import time
from functools import lru_cache
from typing import TYPE_CHECKING

from gateway.fleet.circuits import UNCOUNTED, CircuitOpen
from gateway.fleet.circuits import Permit as CircuitPermit
from gateway.policy.outcome import FAILURE, IGNORED, SUCCESS, Outcome
from gateway.policy.retry import Facts, Failure, Retry, next_delay, parse_retry_after
from gateway.proxy.refusal import Refusal, jittered
from gateway.proxy.upstreams import Endpoint, Upstream
from gateway.telemetry.categories import category_of_reason, category_of_status
from gateway.wire.chunked import LAST_CHUNK, encode_chunk
from gateway.wire.pool import ConnectFailure, Waiter
from gateway.wire.response import Response
from gateway.wire.response_sink import Loss
from gateway.wire.upstream import UpstreamConnection

if TYPE_CHECKING:
    from gateway.proxy.exchange import Exchange
    from gateway.proxy.front import Front

_NEVER = float("inf")
# Of `attempt_timeout`: who has waited so long in vain has seen that the upstream hangs.
_HUNG_SHARE = 0.5
# The longest time on the way, there and back, in which what an idle connection ends with may cross with a request.
_CROSSING_TIME = 1.0
# So much of a request body the kernels' buffers take at once. Beyond it an upstream that reads slowly is to be noticed.
_TAKEN_AT_ONCE = 65_536
_LOSS_REASONS = {
    Loss.RESET: "upstream_unreachable",
    Loss.PROTOCOL: "upstream_protocol_error",
    Loss.TRUNCATED: "upstream_truncated",
}


class Forward:
    __slots__ = (
        "_body_stopped",
        "_chunked",
        "_collecting",
        "_connection",
        "_continued",
        "_ended",
        "_endpoint",
        "_exchange",
        "_free_retry_used",
        "_front",
        "_head",
        "_head_at",
        "_idempotent",
        "_paused",
        "_permit",
        "_probe",
        "_reached",
        "_replayable",
        "_request_sent",
        "_sent_at",
        "_timer",
        "_total_deadline",
        "_tried",
        "_unsent",
        "_upstream",
        "_waiter",
        "attempt",
        "deadline",
        "streaming",
    )

    def __init__(self, exchange: "Exchange", front: "Front", upstream: Upstream) -> None:
        self._exchange = exchange
        self._front = front
        self._upstream = upstream
        fields = exchange.request.fields
        plan = exchange.plan
        self._idempotent = plan.idempotent
        self._chunked = fields.chunked
        # The same for all attempts: they are one span of one trace.
        self._head = b"%bX-Request-ID: %b\r\nX-Correlation-ID: %b\r\ntraceparent: %b\r\n\r\n" % (
            plan.head,
            exchange.request_id,
            exchange.correlation_id,
            fields.traceparent or front.ids.traceparent(exchange.own_id),
        )
        # The request body: whether all of it that was sent is still held, to be sent again.
        self._replayable = True
        self._continued = False
        self._body_stopped = False
        self._collecting = False
        # This attempt.
        self.attempt = 0
        self._permit: CircuitPermit | None = None
        self._probe = False
        self._endpoint: Endpoint | None = None
        self._connection: UpstreamConnection | None = None
        self._waiter: Waiter | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._request_sent = self._reached = False
        self._unsent = 0
        self._sent_at = 0.0
        self._head_at = 0.0
        self.deadline = _NEVER
        # All of them.
        self._tried: tuple[Endpoint, ...] = ()
        self._free_retry_used = False
        self._total_deadline = exchange.started + upstream.total_timeout
        self._paused = False
        self.streaming = False
        self._ended = False

    def __repr__(self) -> str:
        return f"<Forward {self._upstream.name} attempt={self.attempt} endpoint={self._endpoint}>"

    # The attempt.

    def start(self, answer: CircuitPermit | CircuitOpen | None, now: float) -> None:
        """`answer` is the circuit's."""
        self._upstream.budget.request(now)
        self._attempt(answer, now)

    def _attempt(self, answer: CircuitPermit | CircuitOpen | None, now: float) -> None:
        if isinstance(answer, CircuitPermit):
            if answer.probe and self._incomplete:
                answer.release(IGNORED, 0.0, now)
                self._collect()
            else:
                self._begin(answer, now)
        elif answer is None and self._incomplete:
            self._collect()
        elif answer is None:
            self._exchange.hold_body()
            self._upstream.circuit.acquire(self._permitted)
        else:
            self._permitted(answer)

    @property
    def _incomplete(self) -> bool:
        """Whether the request cannot be a probe yet: its client may take for ever to send the rest. What is larger
        than can be held is one all the same, or an upstream that gets only large uploads would never recover."""
        exchange = self._exchange
        return not exchange.body_done and exchange.bytes_in <= self._front.retry_buffer_bytes

    def _collect(self) -> None:
        """Let the client send its body before the circuit is asked for a probe. Nothing is held for it meanwhile."""
        exchange = self._exchange
        self._collecting = True
        if exchange.request.expect_continue and exchange.bytes_in == 0 and not self._continued:
            self._continued = True
            exchange.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        exchange.connection.resume_reading()

    def _collected(self) -> None:
        if not self._incomplete:
            self._collecting = False
            self._total_deadline = time.monotonic() + self._upstream.total_timeout
            self._attempt_again()

    def _attempt_again(self) -> None:
        self._timer = None
        now = time.monotonic()
        self._attempt(self._upstream.circuit.try_acquire(now), now)

    def _permitted(self, answer: CircuitPermit | CircuitOpen) -> None:
        """The circuit has answered, perhaps later."""
        if isinstance(answer, CircuitOpen):
            if not self._ended:
                self._end()
                self._exchange.note("circuit", answer.cause)
                self._exchange.refuse(self._upstream.left_alone.after(answer.retry_after))
            return
        now = time.monotonic()
        if self._ended:
            answer.release(IGNORED, 0.0, now)
        else:
            self._begin(answer, now)

    def _begin(self, permit: CircuitPermit, now: float) -> None:
        upstream = self._upstream
        endpoint = upstream.pick(now, self._tried)
        if endpoint is None:
            permit.release(IGNORED, 0.0, now)
            self._end()
            self._exchange.refuse(upstream.all_out)
            return
        self.attempt += 1
        self._permit = permit
        self._probe = permit.probe
        self._request_sent = self._reached = False
        self._sent_at = now
        self._head_at = 0.0
        self._endpoint = endpoint
        endpoint.in_flight += 1
        exchange = self._exchange
        exchange.attempts = self.attempt
        exchange.endpoint = endpoint.label
        deadline = now + upstream.attempt_timeout
        self.deadline = min(self._total_deadline, deadline)
        self._front.deadlines.add(self)
        # A probe gets a connection of its own, and so does what has just lost one that had died of old age: its
        # siblings in the pool are as old.
        connection = None if self._probe or self._free_retry_used else endpoint.pool.take()
        if connection is not None:
            self._send(connection)
        else:
            exchange.hold_body()
            self._waiter = endpoint.pool.request(self._connected)

    def _connected(self, result: UpstreamConnection | ConnectFailure) -> None:
        self._waiter = None
        if isinstance(result, UpstreamConnection):
            # Waiting for a place in our own pool is not the upstream's time.
            now = time.monotonic()
            self._sent_at = now
            self.deadline = min(self._total_deadline, now + self._upstream.attempt_timeout)
            self._send(result)
        elif result is ConnectFailure.TIMEOUT:
            self._failed("connect", "upstream_timeout", "no connection in time", result.value)
        elif result is ConnectFailure.LOCAL:
            self._lacking()
        else:
            self._reached = result.reached
            self._failed("connect", "upstream_unreachable", "no connection", result.value)

    def _send(self, connection: UpstreamConnection) -> None:
        exchange = self._exchange
        self._connection = connection
        body_done = exchange.body_done
        request = exchange.request
        self._request_sent = self._reached = True
        connection.send(self, self._head, to_head=request.method == "HEAD", more=not body_done)
        if request.has_body:
            for data in exchange.held:
                connection.write(encode_chunk(data) if self._chunked else data)
            if body_done and self._chunked:
                connection.write(LAST_CHUNK)
            self._trim()
            if not body_done:
                self._moved()
                if request.expect_continue and exchange.bytes_in == 0 and not self._continued:
                    self._continued = True
                    exchange.connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                if not connection.write_blocked:
                    exchange.connection.resume_reading()

    def _trim(self) -> None:
        """Let go of what was sent, unless all of it is small enough to be kept for a repetition that is allowed."""
        exchange = self._exchange
        if exchange.held and not (self._idempotent and exchange.bytes_in <= self._front.retry_buffer_bytes):
            self._replayable = False
            exchange.held.clear()

    # The request body, from the client.

    def body(self, data: bytes) -> None:
        exchange = self._exchange
        connection = self._connection
        if self._ended or self._body_stopped:
            return
        if connection is None:
            exchange.held.append(data)
            if self._collecting:
                self._collected()
            else:
                exchange.hold_body()
            return
        if self._replayable:
            exchange.held.append(data)
            self._trim()
        self._moved()
        connection.write(encode_chunk(data) if self._chunked else data)

    def body_end(self) -> None:
        if self._collecting:
            self._collected()
            return
        connection = self._connection
        if connection is not None and not self._ended and not self._body_stopped:
            self._moved()
            if self._chunked:
                connection.write(LAST_CHUNK)
            connection.end_request()

    def _moved(self) -> None:
        """The request body has moved. While the client is the one to be waited for, its connection keeps the time."""
        now = time.monotonic()
        upstream = self._upstream
        connection = self._connection
        self._total_deadline = now + upstream.total_timeout
        if connection is not None and self._exchange.bytes_in > _TAKEN_AT_ONCE:
            self._unsent = connection.unsent
        if not self.streaming:
            self._sent_at = now
            on_client = not self._exchange.body_done and connection is not None and not connection.write_blocked
            self.deadline = _NEVER if on_client else now + upstream.attempt_timeout

    def pause_response(self) -> None:
        self._paused = True
        if self._connection is not None and self.streaming:
            self._connection.pause_reading()
            self.deadline = _NEVER

    def resume_response(self) -> None:
        if self._paused:
            self._paused = False
            if self._connection is not None and self.streaming:
                self.deadline = time.monotonic() + self._upstream.idle_timeout
                self._connection.resume_reading()

    def cancel(self, *, client_left: bool = False) -> None:
        """The client has gone, or its request turned out to be broken. In itself that says nothing about the upstream;
        how long a client has waited before it left may."""
        if self._ended:
            return
        connection = self._connection
        now = time.monotonic()
        if client_left and connection is not None and self._exchange.body_done:
            self._left_waiting(now)
        self._settle(IGNORED, now)
        self._end()
        if connection is not None:
            connection.abort()

    def _left_waiting(self, now: float) -> None:
        """The client of a complete request has gone. An endpoint that has said nothing to it for a good part of the
        time limit, and has answered nobody else meanwhile, hangs: its clients need not wait to the end for that."""
        permit, endpoint = self._permit, self._endpoint
        if permit is None or endpoint is None:
            return
        waited = (self._head_at or now) - self._sent_at
        patience = self._upstream.attempt_timeout * _HUNG_SHARE
        if not self._head_at and waited >= patience and not endpoint.answered_since(self._sent_at):
            detail = f"no answer within {waited:.1f} s, when the client left"
            self._record(category_of_reason("upstream_timeout"), "upstream_timeout", None, detail)
            self._settle(FAILURE, now)
        else:
            permit.left(waited, now)
            # The circuit has heard of it; the endpoint is still to be released.
            self._permit = UNCOUNTED

    def expire(self, now: float) -> None:
        """The deadline has passed (gateway.wire.deadlines)."""
        connection = self._connection
        if self.streaming:
            if connection is not None:
                connection.abort()
            self._truncated("the response body stood still")
            return
        endpoint = self._endpoint
        if connection is not None:
            unsent = connection.unsent if self._exchange.bytes_in > _TAKEN_AT_ONCE else 0
            if unsent >= 0 and unsent != self._unsent:
                # The upstream is still taking the request, more slowly than the loop notices.
                self._moved()
                return
            connection.abort()
        elif self._waiter is not None and endpoint is not None and endpoint.pool.full:
            self._no_connection("every connection it may have is busy", now)
            return
        self._failed("timeout", "upstream_timeout", "no answer in time", None)

    # The response, from the upstream (gateway.wire.upstream.ResponseSink).

    def informational(self, response: Response) -> None:
        self._exchange.informational(response)

    def response_head(self, response: Response) -> None:
        now = time.monotonic()
        self._head_at = now
        status = response.status
        upstream = self._upstream
        exchange = self._exchange
        if status >= 400 and self._passed_over(response, self._connection, now):
            return
        if status >= 400 and status in upstream.failure_statuses:
            self._answered_badly(status)
            self._settle(FAILURE, now, answered=True)
        elif self._probe:
            # A probe has told what it was sent for; its lease does not wait for a long body.
            self._settle(SUCCESS, now)
        self.streaming = True
        if status >= 400 and not exchange.body_done:
            self._stop_body()
        self.deadline = now + upstream.idle_timeout
        exchange.respond(response)
        if exchange.connection.write_blocked:
            self.pause_response()

    def response_body(self, data: bytes) -> None:
        self.deadline = _NEVER if self._paused else time.monotonic() + self._upstream.idle_timeout
        self._exchange.respond_body(data)

    def response_pause(self) -> None:
        self._exchange.respond_pause()

    def response_whole(self, response: Response, body: bytes) -> None:
        # Already back in its pool, or closed.
        connection, self._connection = self._connection, None
        now = time.monotonic()
        self._head_at = now
        status = response.status
        if status >= 400 and self._passed_over(response, connection, now):
            return
        if status >= 400 and status in self._upstream.failure_statuses:
            self._answered_badly(status)
            self._settle(FAILURE, now, answered=True)
        else:
            self._settle(SUCCESS, now)
        self._end()
        self._exchange.respond_whole(response, body, now)

    def response_end(self) -> None:
        self._settle(SUCCESS, time.monotonic())
        self._end()
        self._exchange.respond_end()

    def switched(self, response: Response, early: bytes) -> None:
        connection = self._connection
        now = time.monotonic()
        self._head_at = now
        if connection is None or not self._front.may_tunnel(self._exchange, response):
            if connection is not None:
                connection.abort()
            self._failed("protocol", "upstream_protocol_error", "a switch of protocols that was not asked for", None)
            return
        self._settle(SUCCESS, now)
        self._end()
        self._exchange.open_tunnel(response, connection, early)

    def upstream_lost(self, loss: Loss, detail: str) -> None:
        connection = self._connection
        if self.streaming:
            self._truncated(detail)
            return
        stale = loss is Loss.RESET and connection is not None and connection.reused
        failure: Failure = "reset" if loss is Loss.RESET else "protocol"
        error = "connection_terminated" if loss is Loss.RESET else None
        self._failed(failure, _LOSS_REASONS[loss], detail, error, stale=stale)

    def request_blocked(self) -> None:
        self._exchange.hold_body()
        if not self.streaming:
            self.deadline = time.monotonic() + self._upstream.attempt_timeout

    def request_ready(self) -> None:
        if not self._ended:
            self._moved()
            self._exchange.connection.resume_reading()

    def _stop_body(self) -> None:
        """An answer that is an error came before the end of the request: no more of it is sent."""
        self._body_stopped = True
        self._exchange.connection.resume_reading()

    # Endings of an attempt.

    def _answered_badly(self, status: int) -> None:
        self._exchange.answered_badly = status
        self._record(category_of_status(status), "upstream_status", status, f"answered {status}")

    def _record(self, category: str, reason: str, status: int | None, detail: str) -> None:
        """An attempt that failed, as a metric and as an error record."""
        exchange, name = self._exchange, self._upstream.name
        self._front.metrics.downstream_error(name, category)
        self._front.errors.attempt_failed(
            name,
            category,
            reason,
            status,
            self.attempt,
            exchange.request_id,
            exchange.correlation_id,
            f"upstream {name}: {detail}",
        )

    def _settle(self, outcome: Outcome, now: float, *, answered: bool = False) -> None:
        """Exactly once per attempt: the circuit, the endpoint and the metrics hear how it went. `answered` says that a
        failure is the upstream's own word, and not for want of one."""
        permit = self._permit
        if permit is None:
            return
        self._permit = None
        elapsed = (self._head_at or now) - self._sent_at
        permit.release(outcome, elapsed, now, answered, self._reached)
        endpoint = self._endpoint
        if endpoint is not None:
            endpoint.ended(outcome, now)
        if outcome is not IGNORED:
            self._front.metrics.attempt(self._upstream.name, elapsed)
        self._exchange.upstream_seconds += now - self._sent_at

    def _end(self) -> None:
        self._ended = True
        self._connection = None
        self._front.deadlines.discard(self)
        if self._waiter is not None:
            self._waiter.cancel()
            self._waiter = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _facts(
        self, now: float, status: int | None, failure: Failure | None, retry_after: float | None, *, stale: bool
    ) -> Facts:
        return Facts(
            attempt=self.attempt,
            idempotent=self._idempotent,
            replayable=self._replayable,
            request_sent=self._request_sent,
            stale=stale,
            free_retry_used=self._free_retry_used,
            status=status,
            failure=failure,
            upstream_retry_after=retry_after,
            remaining=self._total_deadline - now,
            probe=self._probe,
        )

    def _decide(self, facts: Facts, now: float) -> Retry | None:
        upstream = self._upstream
        front = self._front
        decision = next_delay(upstream.retry, facts, upstream.budget, front.rng, now)
        if isinstance(decision, Retry):
            return decision
        if decision.reason == "budget":
            front.metrics.retry_budget_exhausted(upstream.name)
        if self._idempotent:
            self._exchange.note("retry", decision.reason)
        return None

    def _passed_over(self, response: Response, connection: UpstreamConnection | None, now: float) -> bool:
        """Whether an answer of 400 or more is not the one for the client: another attempt follows, or it was none."""
        status = response.status
        if status == 408 and self._crossed(response, connection, now):
            if self._connection is not None:
                self._connection.abort()
            detail = "a 408 that ended an idle connection crossed with the request"
            self._failed("reset", "upstream_unreachable", detail, "connection_terminated", stale=True)
            return True
        return status in self._upstream.retry.statuses and self._retry_status(response, now)

    def _crossed(self, response: Response, connection: UpstreamConnection | None, now: float) -> bool:
        """Whether a 408 answers no request, but says that an idle connection ends, which some servers do. It had left
        before the request came, so it follows the sending at once. A server that has waited in vain for the rest of a
        request says 408 later, or while the request is not complete."""
        return (
            connection is not None
            and connection.reused
            and not response.keep_alive
            and self._exchange.body_done
            and now - self._sent_at < _CROSSING_TIME
        )

    def _retry_status(self, response: Response, now: float) -> bool:
        """Whether an answer with a retryable status is dropped for another attempt."""
        value = response.fields.retry_after
        floor = parse_retry_after(value, time.time()) if value is not None else None
        retry = self._decide(self._facts(now, response.status, None, floor, stale=False), now)
        if retry is None:
            return False
        connection = self._connection
        if response.status in self._upstream.failure_statuses:
            self._answered_badly(response.status)
            self._settle(FAILURE, now, answered=True)
        else:
            # Worth another attempt, but no failure of the upstream: 429, for one.
            self._settle(SUCCESS, now)
        if connection is not None:
            connection.discard()
        self._again(retry)
        return True

    def _failed(self, failure: Failure, reason: str, detail: str, error: str | None, *, stale: bool = False) -> None:
        """The attempt came to nothing."""
        now = time.monotonic()
        exchange = self._exchange
        retry = self._decide(self._facts(now, None, failure, None, stale=stale), now)
        if retry is not None and retry.free:
            # The connection had died of old age: the endpoint has done nothing wrong.
            self._free_retry_used = True
            self._settle(IGNORED, now)
            self.attempt -= 1
        else:
            self._record(category_of_reason(reason), reason, None, detail)
            # A connection that had died of old age says nothing about the upstream, repeated or not.
            self._settle(IGNORED if stale else FAILURE, now)
        if retry is not None:
            self._again(retry)
            return
        self._end()
        exchange.refuse(_refusal(reason, f"upstream {self._upstream.name}: {detail}", error))

    def _again(self, retry: Retry) -> None:
        if self._waiter is not None:
            self._waiter.cancel()
            self._waiter = None
        if self._endpoint is not None and not retry.free:
            self._tried = (*self._tried, self._endpoint)
        self._connection = None
        self.deadline = _NEVER
        if not retry.free:
            self._front.metrics.retried(self._upstream.name)
        # Even without a delay not within the callback of the connection that failed.
        self._timer = self._front.loop.call_later(retry.delay, self._attempt_again)

    def _truncated(self, detail: str) -> None:
        reason = "upstream_truncated"
        self._record(category_of_reason(reason), reason, self._exchange.status, detail)
        self._settle(FAILURE, time.monotonic())
        self._end()
        self._exchange.note("truncated", detail)
        self._exchange.truncated(reason)

    def _lacking(self) -> None:
        """This host could not even try. Another endpoint, or the same one a moment later, may do: a connection that
        comes back needs nothing new."""
        endpoint = self._endpoint
        now = time.monotonic()
        retry = self._decide(self._facts(now, None, "connect", None, stale=False), now)
        if retry is not None:
            self._settle(IGNORED, now)
            self._again(retry)
        elif endpoint is not None:
            self._no_connection(endpoint.pool.lacking, now)

    def _no_connection(self, why: str, now: float) -> None:
        """There is none to be had here, and the upstream is not to blame."""
        self._settle(IGNORED, now)
        self._end()
        self._front.metrics.bulkhead_rejected(self._upstream.name)
        detail = f"upstream {self._upstream.name}: {why}"
        self._exchange.refuse(Refusal(503, "bulkhead_full", detail, retry_after=jittered(1.0, self._front.rng)))


@lru_cache(maxsize=1024)
def _refusal(reason: str, detail: str, error: str | None) -> Refusal:
    """In place of an answer. The same few come while an upstream is failing."""
    return Refusal(504 if reason == "upstream_timeout" else 502, reason, detail, error=error)

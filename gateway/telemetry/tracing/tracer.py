"""Which exchanges are exported: the sampled ones, and of the others a few that somebody will ask about.

Of those that were not sampled a small number a second is kept, for each reason:

    error     the client got a 5xx, or half an answer
    refused   the gateway has refused the request (4xx)
    retried   it took more than one attempt
    slow      it took `slow` seconds or longer; WebSocket tunnels do not count

A trace that was kept has no spans of the services behind, because they were told that it is not sampled.
"""

import time
from collections.abc import Callable
from typing import Final

from gateway.reasons import UPSTREAM_REASONS
from gateway.telemetry.record import LogPart, Record, RouteAccount
from gateway.telemetry.tracing.trace import Trace, Traces

SERVER: Final = "server"
OWN: Final = "own"
"""What a span is of: a client's request, or one of the gateway's own."""

_TUNNEL: Final = 101
_KINDS: Final = ("error", "refused", "retried", "slow")


class FinishedExchange:
    """What is known of an exchange that is over and is to be exported. Nothing of it changes any more. `ended` is an
    instant of the monotonic clock, and `wall` the same one in nanoseconds since the epoch. `kept` is why it is exported
    although it was not sampled, empty where it was."""

    __slots__ = (
        "account",
        "bytes_in",
        "bytes_out",
        "correlation_id",
        "decisions",
        "ended",
        "kept",
        "kind",
        "log_part",
        "method",
        "reason",
        "request_id",
        "seconds",
        "status",
        "trace",
        "wall",
    )

    def __init__(
        self, record: Record, trace: Trace, method: str, seconds: float, ended: float, wall: int, kept: str, kind: str
    ) -> None:
        self.trace = trace
        self.method = method
        self.kind = kind
        self.kept = kept
        self.seconds = seconds
        self.ended = ended
        self.wall = wall
        self.account: RouteAccount = record.account
        self.log_part: LogPart = record.log_part
        self.request_id = record.request_id
        self.correlation_id = record.correlation_id
        self.status = record.status
        self.reason = record.reason
        self.bytes_in = record.bytes_in
        self.bytes_out = record.bytes_out
        self.decisions = record.log_decisions

    @property
    def spans(self) -> int:
        """How many spans it becomes."""
        return 1 + len(self.trace.attempts)


class Tracer:
    """`traces` begins those of exchanges that ended before an attempt. `put` takes what is to be exported, and must not
    block; `masked` takes credentials out of a path. `kept_a_second` are kept of each kind although they were not
    sampled, 0 for none; `slow` is in seconds, 0 for never."""

    __slots__ = ("_counts", "_kept_a_second", "_masked", "_put", "_since", "_slow", "traces")

    def __init__(
        self,
        traces: Traces,
        put: Callable[[FinishedExchange], None],
        masked: Callable[[bytes], bytes],
        *,
        kept_a_second: int,
        slow: float,
    ) -> None:
        self.traces = traces
        self._put = put
        self._masked = masked
        self._kept_a_second = kept_a_second
        self._slow = slow or float("inf")
        self._since = 0.0
        self._counts = dict.fromkeys(_KINDS, 0)

    def keeps(self, record: Record, attempts: int, seconds: float, now: float) -> str:
        """Why an exchange that was not sampled is exported all the same, empty where it is not. HOT."""
        status, reason = record.status, record.reason
        kept = ""
        if status >= 500 or reason in UPSTREAM_REASONS:
            kept = "error"
        elif reason and reason != "client_closed" and status >= 400:
            kept = "refused"
        elif attempts > 1:
            kept = "retried"
        elif seconds >= self._slow and status != _TUNNEL:
            kept = "slow"
        return kept if kept and self._allowed(kept, now) else ""

    def export(
        self, record: Record, trace: Trace, method: str, seconds: float, now: float, kept: str = "", kind: str = SERVER
    ) -> None:
        """Export an exchange that was over at `now`, `seconds` after it began. `kept` is from `keeps`. HOT."""
        for attempt in trace.attempts:
            # Only the path is wanted; the fields may hold credentials, and take memory.
            attempt.head = self._masked(path_of(attempt.head))
        self._put(FinishedExchange(record, trace, method, seconds, now, time.time_ns(), kept, kind))

    def _allowed(self, kind: str, now: float) -> bool:
        counts = self._counts
        if now - self._since >= 1.0:
            self._since = now
            for each in _KINDS:
                counts[each] = 0
        counts[kind] += 1
        return counts[kind] <= self._kept_a_second


def path_of(head: bytes) -> bytes:
    """The path in the first line of a request head, without the query."""
    start = head.find(b" ") + 1
    return head[start : head.find(b" ", start)].partition(b"?")[0]

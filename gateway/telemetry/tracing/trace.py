"""The trace of one exchange: its place in a W3C trace, and its attempts.

Trace Context (https://www.w3.org/TR/trace-context-2/), version 00:

    traceparent = 00-<trace id: 32 digits>-<parent id: 16 digits>-<flags: 2 digits>

A trace that comes in goes on: its trace id stays, and so does its random flag. One that begins here has the
exchange's own id as trace id, which is unique but follows a rule, so its random flag is never set. `tracestate` is
passed on as it came.

The parent id that an upstream gets is the span id of the attempt: each attempt has one of its own.
"""

from collections.abc import Callable
from typing import Final

SUPERSEDED: Final = "superseded"
"""The `reason` of an attempt that was cancelled because another one, beside it, has the answer."""

_SAMPLED: Final = 1
_RANDOM: Final = 2
_LOW_BITS: Final = 1 << 64
_ODD: Final = b"13579bdf"
_FLAGS: Final = (b"00", b"01", b"02", b"03")
# By the ninth digit of a span id: the same with its highest bit changed. No request of this process has such an id
# (`gateway.proxy.requests.ids`), so no other span has it.
_FLIPPED: Final = tuple(
    [b"%x" % (int(chr(digit), 16) ^ 8) if chr(digit) in "0123456789abcdef" else b"" for digit in range(128)]
)
# Of a request head that ends in a `traceparent` line: where its parent id begins and ends, from the end.
_PARENT_FROM: Final = -23
_PARENT_TO: Final = -7


class AttemptTrace:
    """One attempt. `began` and `ended` are instants of the monotonic clock; `ended` is 0 until it is settled. `status`
    is what the upstream answered, 0 where nothing is known; `reason` why it came to nothing, empty without one.
    `answered` says that the head of an answer has come. `head` is the request head for the upstream. `hedge`: it was
    made beside the attempt before it, which went on."""

    __slots__ = (
        *("answered", "began", "ended", "endpoint", "head", "hedge"),
        *("probe", "reason", "span_id", "status", "upstream"),
    )

    def __init__(self, span_id: bytes, upstream: str, endpoint: str, head: bytes, began: float, *, probe: bool) -> None:
        self.span_id = span_id
        self.upstream = upstream
        self.endpoint = endpoint
        self.head = head
        self.began = began
        self.probe = probe
        self.hedge = False
        self.ended = 0.0
        self.status = 0
        self.reason = ""
        self.answered = False

    @property
    def outcome(self) -> str:
        """In one word: the reason of a failure, the status of an answer, or that nothing is known yet."""
        return self.reason or (str(self.status) if self.status else "answered" if self.answered else "pending")


class Trace:
    """`span_id` is that of the exchange's own span, `parent_id` that of the span which it is a child of, empty where
    the trace begins here. `sampled`: it is exported whatever comes of it. `flags` are those for the upstream.

    `new_id` makes the ids of attempts. It is None where no spans are exported: what upstreams get then is `given`, so
    that they are no children of a span that nobody will see. `link` is a `traceparent` that names the span which this
    exchange comes of, although it is not its parent; empty for none.

    `attempts` are in the order in which they began, and `present` is the one that is spoken of; None before the
    first."""

    __slots__ = (
        "_first_id",
        "_given",
        "_new_id",
        "attempts",
        "flags",
        "link",
        "parent_id",
        "present",
        "sampled",
        "span_id",
        "state",
        "trace_id",
    )

    def __init__(
        self,
        trace_id: bytes,
        parent_id: bytes,
        span_id: bytes,
        flags: int,
        state: bytes,
        new_id: Callable[[], bytes] | None,
        given: bytes = b"",
    ) -> None:
        self.trace_id = trace_id
        self.parent_id = parent_id
        self.span_id = span_id
        self.flags = flags
        self.sampled = bool(flags & _SAMPLED)
        self.state = state
        self.link = b""
        self.attempts: list[AttemptTrace] = []
        self.present: AttemptTrace | None = None
        self._given = given
        self._new_id = new_id
        self._first_id = b"" if new_id is None else _first_id(span_id)

    @property
    def traceparent(self) -> bytes:
        """What the upstream gets of the first attempt. HOT."""
        return self._given or b"-".join((b"00", self.trace_id, self._first_id or self.span_id, _FLAGS[self.flags]))

    def attempt(self, upstream: str, endpoint: str, head: bytes, now: float, *, probe: bool) -> bytes:
        """An attempt begins. `head` is complete, and its last line is `traceparent`. Returns the head with the id of
        this attempt in it. HOT."""
        span_id = self._first_id
        new_id = self._new_id
        if self.attempts and new_id is not None:
            span_id = new_id()[16:]
            head = b"%b%b%b" % (head[:_PARENT_FROM], span_id, head[_PARENT_TO:])
        self.present = attempt = AttemptTrace(span_id, upstream, endpoint, head, now, probe=probe)
        self.attempts.append(attempt)
        return head

    def beside(self, upstream: str, endpoint: str, head: bytes, now: float) -> tuple["Trace", bytes]:
        """As `attempt`, while the present one goes on: returns the same trace with the new attempt as the present one,
        and the head."""
        other = Trace(
            self.trace_id, self.parent_id, self.span_id, self.flags, self.state, self._new_id, given=self._given
        )
        other.attempts = self.attempts
        head = other.attempt(upstream, endpoint, head, now, probe=False)
        if other.present is not None:
            other.present.hedge = True
        return other, head

    def answered(self, status: int) -> None:
        """The present attempt was answered with this status, and the answer does not go to the client."""
        if self.present is not None:
            self.present.status = status

    def failed(self, reason: str, status: int | None) -> None:
        """The present attempt has failed. `status` is what had been answered before."""
        attempt = self.present
        if attempt is not None:
            attempt.reason = reason
            attempt.status = status or 0

    def settled(self, now: float, began: float, *, answered: bool) -> None:
        """The present attempt is over. `began` is when it did, for one that was noted late. `answered`: the head of its
        answer had come. HOT."""
        attempt = self.present
        if attempt is not None:
            if not attempt.began:
                attempt.began = began
            attempt.ended = now
            attempt.answered = answered

    def seconds(self, now: float) -> float:
        """The time in which an attempt was under way; of one that goes on, up to `now`."""
        total = counted = 0.0
        for attempt in self.attempts:
            ended = attempt.ended or now
            began = max(attempt.began, counted)
            if ended > began:
                total += ended - began
                counted = ended
        return total


class Traces:
    """Begins traces. `ratio`, from 0 to 1, is the share that is sampled of those that begin here; with `parent_based`
    of no others, as whoever has begun them has decided. Without, it is the share of all.

    The share is of the trace ids, by their low 64 bits, as OpenTelemetry's `TraceIdRatioBased` has it: gateways in a
    chain with the same ratio decide alike. `new_id` makes the ids of requests (`gateway.proxy.requests.ids`).
    `exported` says that somebody collects the spans.
    """

    __slots__ = ("_bound", "_new_id", "_parent_based", "exported")

    def __init__(
        self, new_id: Callable[[], bytes], ratio: float, *, parent_based: bool = True, exported: bool = False
    ) -> None:
        self.exported = exported
        self._new_id = new_id if exported else None
        # No digit comes behind "g".
        self._bound = b"g" if ratio >= 1.0 else b"%016x" % int(ratio * _LOW_BITS)
        self._parent_based = parent_based

    def begin(self, own_id: bytes, traceparent: bytes | None, tracestate: list[bytes]) -> Trace:
        """The trace of the exchange `own_id`, which goes on with a well-formed `traceparent`. HOT."""
        new_id = self._new_id
        span_id = own_id[16:]
        if traceparent is None:
            flags = _SAMPLED if self._chosen(span_id) else 0
            return Trace(own_id, b"", span_id, flags, b"", new_id)
        trace_id = traceparent[3:35]
        flags = int(traceparent[53:55], 16)
        sampled = flags & _SAMPLED if self._parent_based else int(self._chosen(trace_id[16:]))
        state = b",".join(tracestate) if tracestate else b""
        flags = (flags & _RANDOM) | sampled
        given = b"" if self.exported else traceparent
        return Trace(trace_id, traceparent[36:52], span_id, flags, state, new_id, given)

    def naming(self, own_id: bytes, traceparent: bytes | None) -> bytes:
        """A `traceparent` that names the own span of the exchange which `begin` is called for with the same."""
        trace = self.begin(own_id, traceparent, [])
        return b"-".join((b"00", trace.trace_id, trace.span_id, _FLAGS[trace.flags]))

    def samples(self, own_id: bytes, traceparent: bytes | None) -> bool:
        """Whether the trace that `begin` makes is sampled. HOT."""
        if traceparent is None:
            return self._chosen(own_id[16:])
        if self._parent_based:
            return traceparent[54] in _ODD
        return self._chosen(traceparent[19:35])

    def unsampled(self, own_id: bytes, traceparent: bytes | None) -> bytes:
        """What the upstream gets of the first attempt of a trace that is not sampled. `begin` may still be called, and
        that attempt has the same id then. HOT."""
        first_id = _first_id(own_id[16:])
        if traceparent is None:
            return b"-".join((b"00", own_id, first_id, b"00"))
        flags = int(traceparent[53:55], 16) & _RANDOM
        return b"-".join((b"00", traceparent[3:35], first_id, _FLAGS[flags]))

    def traceparent(self, own_id: bytes) -> bytes:
        """The line of a trace that begins here, and of which nothing is to be exported. HOT."""
        low = own_id[16:]
        return b"-".join((b"00", own_id, low, _FLAGS[self._chosen(low)]))

    def _chosen(self, low: bytes) -> bool:
        """Of hexadecimal digits in the same number and case, the order of the texts is that of the numbers."""
        return low < self._bound


def _first_id(span_id: bytes) -> bytes:
    return b"".join((span_id[:8], _FLIPPED[span_id[8]], span_id[9:]))

"""The last calls of a window bounded in count and in time, and how many of them failed (also for want of a connection)
or were slow.

A ring buffer: at most `size` calls, none older than `seconds`. Recording is O(1) amortised, since every call is written
once and dropped once, and the sums are carried along. Invariant: `calls`, `failures`, `unreached` (those without a
connection; they are in `failures` too) and `slow_calls` are the counts over exactly the entries kept, and after
`record` or `expire` at `now` every entry is younger than `seconds`.

What a count means for anybody (whether a circuit trips) is not known here.
"""

_FAILED = 1
_SLOW = 2
_UNREACHED = 4


class OutcomeWindow:
    """Times are instants of one clock, in seconds, and should not run backwards; one that does expires later."""

    __slots__ = ("_kinds", "_next", "_seconds", "_size", "_times", "calls", "failures", "slow_calls", "unreached")

    def __init__(self, size: int, seconds: float) -> None:
        self._size = size
        self._seconds = seconds
        self._times = [0.0] * size
        self._kinds = [0] * size
        self._next = 0
        self.calls = 0
        self.failures = 0
        self.slow_calls = 0
        self.unreached = 0

    def __repr__(self) -> str:
        return f"OutcomeWindow(calls={self.calls}, failures={self.failures}, slow_calls={self.slow_calls})"

    def record(self, now: float, failed: bool = False, slow: bool = False, unreached: bool = False) -> None:  # HOT
        index = self._next
        size = self._size
        times = self._times
        if self.calls == size:
            # Full: the slot to write holds the oldest call.
            if self._kinds[index]:
                self._forget(index)
        else:
            self.calls += 1
        times[index] = now
        if failed or slow:
            self._kinds[index] = _FAILED * failed + _SLOW * slow + _UNREACHED * unreached
            self.failures += failed
            self.slow_calls += slow
            self.unreached += unreached
        else:
            self._kinds[index] = 0
        index += 1
        self._next = index = 0 if index == size else index
        # A negative index counts from the end, which is where the ring wraps to.
        if times[index - self.calls] <= now - self._seconds:
            self.expire(now)

    def expire(self, now: float) -> None:
        """Drop what is too old at `now`."""
        horizon = now - self._seconds
        times = self._times
        while self.calls:
            oldest = self._next - self.calls
            if times[oldest] > horizon:
                break
            if self._kinds[oldest]:
                self._forget(oldest)
            self.calls -= 1

    def clear(self) -> None:
        self._next = self.calls = self.failures = self.slow_calls = self.unreached = 0

    def _forget(self, index: int) -> None:
        kind = self._kinds[index]
        if kind & _FAILED:
            self.failures -= 1
        if kind & _SLOW:
            self.slow_calls -= 1
        if kind & _UNREACHED:
            self.unreached -= 1

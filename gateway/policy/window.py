"""A window over the last calls that counts how many of them failed, and how many were slow.

The window is a ring buffer. It holds at most `size` calls, and none that is `seconds` old or older. Recording takes
constant time on average: every call is written once and dropped once, and the sums are kept up to date.

Invariant: `calls`, `failures`, `slow_calls` and `unreached` count exactly the calls that are kept. `unreached` are the
failures for which there was no connection; they are part of `failures`. After `record` or `expire` at `now`, every call
is younger than `seconds`.

What the counts mean, for example whether a circuit trips, is not known here.
"""

from typing import Final

from gateway.policy.tally import Tally

_FAILED: Final = 1
_SLOW: Final = 2
_UNREACHED: Final = 4


class OutcomeWindow(Tally):
    """A tally of the last calls.

    Times are instants of one clock, in seconds. They should not run backwards: a call whose time lies in the past
    leaves the window later than it should.
    """

    __slots__ = ("_kinds", "_next", "_seconds", "_size", "_times", "unreached")

    def __init__(self, size: int, seconds: float) -> None:
        super().__init__()
        self._size = size
        self._seconds = seconds
        self._times = [0.0] * size
        self._kinds = [0] * size
        self._next = 0
        self.unreached = 0

    def record(self, now: float, failed: bool = False, slow: bool = False, unreached: bool = False) -> None:  # HOT
        """Count a call that ended at `now`. Only a failed call can be `unreached`."""
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
        """Drop the calls that are too old at `now`."""
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
        """Drop all calls."""
        self._next = self.calls = self.failures = self.slow_calls = self.unreached = 0

    def _forget(self, index: int) -> None:
        kind = self._kinds[index]
        if kind & _FAILED:
            self.failures -= 1
        if kind & _SLOW:
            self.slow_calls -= 1
        if kind & _UNREACHED:
            self.unreached -= 1

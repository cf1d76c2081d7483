"""What one replica has seen of one upstream: the calls of the window, and the failures since the last success."""

import math
from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

from gateway.policy.verdict import TripRules
from gateway.policy.window import OutcomeWindow


class Counts(NamedTuple):
    """What observers are shown of a window."""

    calls: int
    failures: int
    slow_calls: int


@dataclass(frozen=True, slots=True)
class Evidence:
    """A summary for the other replicas. Ages are in seconds.

    `calls`, `failures` and `slow_calls` are those of the window; `unreached` of the failures had no connection.
    `failure_ages` are the ages of the failures since the last success, the newest first, at most `failure_threshold` of
    them. `answered` is True when each of those was an answer of the upstream itself. `success_age` is the age of the
    last success, None when there was none. `unreached_age` is the age of the last failure without a connection; it is
    None when that failure is neither in the window nor among `failure_ages`.
    """

    calls: int
    failures: int
    slow_calls: int
    failure_ages: tuple[float, ...]
    success_age: float | None
    answered: bool
    unreached_age: float | None
    unreached: int


class History:
    """The memory of a breaker. All times are instants of the breaker's clock, in seconds.

    `failure_times` are those of the consecutive failures, the oldest first; it keeps as many as the rules ask for.
    `last_silence` is the last failure that was not an answer of the upstream, `last_unreached` the last one without a
    connection; both are -inf when there was none. A call of `slow_after` seconds or more is slow.
    """

    __slots__ = (
        "failure_times", "last_failure", "last_silence", "last_success", "last_unreached", "slow_after", "window",
        "window_seconds",
    )  # fmt: skip

    def __init__(self, rules: TripRules) -> None:
        self.window = OutcomeWindow(rules.window_size, rules.window_seconds)
        self.window_seconds = rules.window_seconds
        self.slow_after = math.inf if rules.slow_call_threshold is None else rules.slow_call_threshold
        self.failure_times: deque[float] = deque(maxlen=rules.failure_threshold)
        self.last_success: float | None = None
        self.last_failure: float | None = None
        self.last_silence = -math.inf
        self.last_unreached = -math.inf

    def succeeded(self, now: float) -> None:
        """Note a success: it ends a run of consecutive failures."""
        self.last_success = now
        if self.failure_times:
            self.failure_times.clear()

    def failed(self, now: float, answered: bool, reached: bool) -> None:
        """Note a failure; `answered` and `reached` as for `Permit.release`."""
        self.last_failure = now
        self.failure_times.append(now)
        if not answered:
            self.last_silence = now
        if not reached:
            self.last_unreached = now

    def forget(self) -> None:
        """Forget everything."""
        self.window.clear()
        self.failure_times.clear()
        self.last_success = self.last_failure = None
        self.last_silence = self.last_unreached = -math.inf

    def counts(self, now: float) -> Counts:
        """The window's counts at `now`."""
        window = self.window
        window.expire(now)
        return Counts(window.calls, window.failures, window.slow_calls)

    def evidence(self, now: float) -> Evidence:
        """The summary at `now`."""
        window, failure_times = self.window, self.failure_times
        window.expire(now)
        return Evidence(
            window.calls,
            window.failures,
            window.slow_calls,
            tuple([max(0.0, now - at) for at in reversed(failure_times)]),
            None if self.last_success is None else max(0.0, now - self.last_success),
            bool(failure_times) and self.last_silence < failure_times[0],
            max(0.0, now - self.last_unreached) if self._unreached_matters(now) else None,
            window.unreached,
        )

    def _unreached_matters(self, now: float) -> bool:
        at = self.last_unreached
        in_a_row = bool(self.failure_times) and at >= self.failure_times[0]
        return in_a_row or at > now - self.window_seconds

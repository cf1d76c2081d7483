"""When a hook is not called any more for a while, because it fails or holds up all other requests.

A call is bad when it was slow or has failed. Within a window that begins anew when it is over, a hook is switched off

    when at least `failures` calls were bad, and they are at least half of all, or
    when the bad calls together took at least a fifth of the window

for `pause` seconds. The next call after that is a trial: if it is bad the hook is off again at once.

Half of all: else who sends a few requests that the hook cannot take would switch it off for everybody.
"""

from typing import Final, Literal

_SHARE: Final = 0.5
_TIME_SHARE: Final = 0.2

Change = Literal["", "off", "on"]


class HookSwitch:
    """Of one hook. Instants are of the monotonic clock. The hook is not to be called before `off_until`."""

    __slots__ = ("_bad", "_bad_seconds", "_calls", "_failures", "_pause", "_since", "_trial", "_window", "off_until")

    def __init__(self, failures: int, window: float, pause: float) -> None:
        self._failures = failures
        self._window = window
        self._pause = pause
        self._since = 0.0
        self._calls = 0
        self._bad = 0
        self._bad_seconds = 0.0
        self._trial = False
        self.off_until = 0.0

    @property
    def words(self) -> str:
        """What was counted in the present window."""
        return f"{self._bad} of {self._calls} calls were slow or failed, and took {self._bad_seconds:.3f} s"

    def ended(self, now: float, seconds: float, *, bad: bool) -> Change:
        """A call is over that took so many seconds. Returns `off` where this switches the hook off, `on` where it shows
        that the hook is well again. HOT."""
        if now - self._since >= self._window:
            self._since = now
            self._calls = self._bad = 0
            self._bad_seconds = 0.0
        self._calls += 1
        if not bad:
            if self._trial:
                self._trial = False
                return "on"
            return ""
        self._bad += 1
        self._bad_seconds += seconds
        many = self._bad >= self._failures and self._bad >= self._calls * _SHARE
        if self._trial or many or self._bad_seconds >= self._window * _TIME_SHARE:
            self.off_until = now + self._pause
            # The window of the trial begins with it.
            self._since = -self._window
            self._trial = True
            return "off"
        return ""

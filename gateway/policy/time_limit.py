"""How long to wait for a peer before going on without it: what it usually takes, and a margin.

As TCP computes its retransmission timeout (RFC 6298, section 2):

    limit = mean + 4 · deviation        within [least, most]

with the mean of the times that answers took (gain 1/8) and their mean deviation. The deviation grows with a gain of
1/4, as in TCP, but shrinks with 1/32: a peer that is slow now and then is expected to be so again for a while, or the
limit would follow it down and meet the next slow answer too early.

An answer that took longer than `most` does not count, and neither does an answer that never came: they say that the
peer was away, and nothing of how long it usually takes.
"""

from typing import Final

MEAN_GAIN: Final = 1 / 8
DEVIATION_GROWS: Final = 1 / 4
DEVIATION_SHRINKS: Final = 1 / 32


class TimeLimit:
    """`seconds` is the limit now. It begins with `least`, and stays within `least` and `most`."""

    __slots__ = ("_deviation", "_least", "_mean", "_most", "seconds")

    def __init__(self, least: float, most: float) -> None:
        self._least = least
        self._most = max(least, most)
        self._mean = -1.0
        self._deviation = 0.0
        self.seconds = least

    def __repr__(self) -> str:
        return f"<TimeLimit {self.seconds * 1000:.0f} ms>"

    def record(self, seconds: float) -> None:
        """An answer took that long."""
        if seconds > self._most:
            return
        if self._mean < 0.0:
            self._mean, self._deviation = seconds, seconds / 2
        else:
            off = abs(seconds - self._mean) - self._deviation
            self._deviation += off * (DEVIATION_GROWS if off > 0.0 else DEVIATION_SHRINKS)
            self._mean += (seconds - self._mean) * MEAN_GAIN
        self.seconds = min(self._most, max(self._least, self._mean + 4.0 * self._deviation))

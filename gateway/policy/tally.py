"""How many calls were made, and how many of them were bad: what the trip rules are applied to."""


class Tally:
    """Counts of one set of calls. `failures` and `slow_calls` are each part of `calls`; a call can be in both."""

    __slots__ = ("calls", "failures", "slow_calls")

    def __init__(self, calls: int = 0, failures: int = 0, slow_calls: int = 0) -> None:
        self.calls = calls
        self.failures = failures
        self.slow_calls = slow_calls

    def __repr__(self) -> str:
        return f"{type(self).__name__}(calls={self.calls}, failures={self.failures}, slow_calls={self.slow_calls})"

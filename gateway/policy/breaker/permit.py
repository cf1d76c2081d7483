"""The two answers of a circuit: a permit to make an attempt, or a refusal."""

from typing import Final

from gateway.policy.outcome import IGNORED, Outcome


class CircuitOpen:
    """A refusal.

    It is worth trying again in `retry_after` seconds (> 0). `cause` says why the circuit is open. Refusals with equal
    values are equal.
    """

    __slots__ = ("cause", "retry_after")

    def __init__(self, retry_after: float, cause: str) -> None:
        self.retry_after = retry_after
        self.cause = cause

    def __repr__(self) -> str:
        return f"CircuitOpen({self.retry_after!r}, {self.cause!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CircuitOpen):
            return NotImplemented
        return self.retry_after == other.retry_after and self.cause == other.cause

    def __hash__(self) -> int:
        return hash((self.retry_after, self.cause))


class Permit:
    """The right to make one attempt at the upstream.

    Whoever holds a permit ends it exactly once: with `release` when the outcome is known, or with `left` when the
    client has gone before that. All attempts of a closed circuit share one permit, which is ended once for each
    attempt. `probe` is True when the attempt decides whether a half-open circuit closes; such an attempt must not be
    retried.
    """

    __slots__ = ()
    probe = False

    def release(
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        """Tell how the attempt ended and that it took `elapsed` seconds.

        `answered` says that a failure was an answer of the upstream itself, such as a 503; without it nothing was
        heard from the upstream. `reached` is False when there was no connection to the upstream, which may be the
        fault of this replica's own network.
        """
        raise NotImplementedError

    def left(self, elapsed: float, now: float) -> None:
        """End the permit because the client has gone, `elapsed` seconds after the attempt began.

        That says nothing about the upstream, but the time does: an attempt that took `slow_call_threshold` or longer is
        counted as a slow call although nobody waits for its answer.
        """
        self.release(IGNORED, elapsed, now)


class _UncountedPermit(Permit):
    """The permit of a circuit that is forced closed. The outcomes of its attempts are not counted."""

    __slots__ = ()

    def release(
        self, outcome: Outcome, elapsed: float, now: float, answered: bool = False, reached: bool = True
    ) -> None:
        pass


UNCOUNTED: Final[Permit] = _UncountedPermit()

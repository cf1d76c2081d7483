"""Passive ejection: an endpoint that keeps failing is left out for a while, on the evidence of the traffic itself.

    ejected for   min(max_time, base_time * 2 ** k)   after `consecutive_failures` in a row

where k counts earlier ejections. Each is forgiven after as much time in good service as it lasted: good service runs
from the return to the latest success, so that an endpoint nobody asked, or that never succeeded, earns nothing.

Never more than `max_fraction` of the endpoints are out at once, and never the last that is available: an ejection that
would leave nothing is worth less than the requests it would refuse. The failures stay counted, so that it happens as
soon as there is room. Results that arrive while an endpoint is out (late ones, and those of panic mode) change nothing.

Left out on purpose: success-rate outliers among endpoints, and sharing between replicas; whether the upstream as a
whole is failing is the circuit breaker's question.
"""

from dataclasses import dataclass

from gateway.policy.outcome import IGNORED, SUCCESS, Outcome


@dataclass(frozen=True, slots=True)
class EjectionSettings:
    """After `consecutive_failures` an endpoint is left out for `base_time` seconds, longer each time it happens
    again up to `max_time`; never more than `max_fraction` of an upstream's endpoints, and never the last one."""

    consecutive_failures: int = 5
    base_time: float = 5.0
    max_time: float = 60.0
    max_fraction: float = 0.5


class Standing:
    """What is known of one endpoint's fitness. `healthy` is the verdict of active checks, true without any."""

    __slots__ = ("ejected_until", "ejections", "failures", "healthy", "last_success")

    def __init__(self) -> None:
        self.healthy = True
        self.ejected_until = float("-inf")
        self.ejections = 0
        self.failures = 0
        self.last_success = float("-inf")

    def __repr__(self) -> str:
        return f"<Standing healthy={self.healthy} failures={self.failures} ejected_until={self.ejected_until:.3f}>"

    def ejected(self, now: float) -> bool:
        return self.ejected_until > now

    def available(self, now: float) -> bool:
        """HOT."""
        return self.healthy and self.ejected_until <= now


class Ejection:
    """The endpoints of one upstream, by index. `standings[i].healthy` is for others to set, the rest only to read."""

    __slots__ = ("_max_ejected", "_settings", "standings")

    def __init__(self, settings: EjectionSettings, endpoints: int) -> None:
        self._settings = settings
        self.standings = tuple(Standing() for _ in range(endpoints))
        self._max_ejected = int(settings.max_fraction * endpoints + 1e-9)  # 0.29 * 100 is 28.999999999999996

    def record(self, index: int, outcome: Outcome, now: float) -> bool:
        """Count how an attempt ended. True: it got the endpoint ejected, until its `ejected_until`. HOT."""
        standing = self.standings[index]
        if standing.ejected_until > now:
            return False
        if outcome is SUCCESS:
            standing.failures = 0
            standing.last_success = now
            return False
        if outcome is IGNORED:
            return False
        standing.failures += 1
        if standing.failures < self._settings.consecutive_failures or not self._may_eject(standing, now):
            return False
        self._eject(standing, now)
        return True

    def ejected(self, index: int, now: float) -> bool:
        return self.standings[index].ejected_until > now

    def ejected_count(self, now: float) -> int:
        return sum(standing.ejected_until > now for standing in self.standings)

    def _may_eject(self, standing: Standing, now: float) -> bool:
        return self.ejected_count(now) < self._max_ejected and any(
            other is not standing and other.available(now) for other in self.standings
        )

    def _eject(self, standing: Standing, now: float) -> None:
        good_service = standing.last_success - standing.ejected_until
        while standing.ejections and good_service >= (served := self._duration(standing.ejections - 1)):
            good_service -= served
            standing.ejections -= 1
        standing.ejected_until = now + self._duration(standing.ejections)
        standing.failures = 0
        # Not counted beyond max_time: what no longer lengthens anything should not have to be forgiven either.
        if not standing.ejections or self._duration(standing.ejections - 1) < self._settings.max_time:
            standing.ejections += 1

    def _duration(self, earlier: int) -> float:
        return min(self._settings.max_time, self._settings.base_time * 2.0 ** min(earlier, 64))

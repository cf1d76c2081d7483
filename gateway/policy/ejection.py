"""Passive ejection: an endpoint that keeps failing is left out for a while, on the evidence of the traffic itself.

    ejected for   min(max_time, base_time * 2 ** k)   after `consecutive_failures` in a row

where k counts earlier ejections. An earlier ejection is forgiven after the endpoint has been in good service for as
long as the ejection lasted. Good service is the time from the return to the latest success, so an endpoint that nobody
asked, or that never succeeded, earns nothing.

No more than `max_fraction` of the endpoints are out at once, and the last one that is available is never ejected,
because leaving none would refuse requests that might succeed. The failures stay counted, so that the ejection happens
as soon as there is room. Results that arrive while an endpoint is out change nothing: they are late ones, or those of
attempts that were made because no endpoint was available.

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


class EndpointHealth:
    """What is known of one endpoint's health.

    `healthy` is the verdict of active checks, True when there are none. `failures` counts the failures since the last
    success, and `ejections` the earlier ejections that are not forgiven yet. `ejected_until` and `last_success` are
    instants, minus infinity where there was none.
    """

    __slots__ = ("ejected_until", "ejections", "failures", "healthy", "last_success")

    def __init__(self) -> None:
        self.healthy = True
        self.ejected_until = float("-inf")
        self.ejections = 0
        self.failures = 0
        self.last_success = float("-inf")

    def __repr__(self) -> str:
        return (
            f"<EndpointHealth healthy={self.healthy} failures={self.failures} ejected_until={self.ejected_until:.3f}>"
        )

    def ejected(self, now: float) -> bool:
        """Whether it is left out because of failures."""
        return self.ejected_until > now

    def available(self, now: float) -> bool:  # HOT
        """Whether requests may be sent to it."""
        return self.healthy and self.ejected_until <= now


class Ejection:
    """The endpoints of one upstream, by index. Others may set `health[i].healthy`, and only read the rest."""

    __slots__ = ("_max_ejected", "_settings", "health")

    def __init__(self, settings: EjectionSettings, endpoints: int) -> None:
        self._settings = settings
        self.health = tuple([EndpointHealth() for _ in range(endpoints)])
        self._max_ejected = int(settings.max_fraction * endpoints + 1e-9)  # 0.29 * 100 is 28.999999999999996

    def record(self, index: int, outcome: Outcome, now: float) -> bool:
        """Count how an attempt ended. True: the endpoint is now ejected because of it, until `ejected_until`. HOT."""
        endpoint = self.health[index]
        if endpoint.ejected_until > now:
            return False
        if outcome is SUCCESS:
            endpoint.failures = 0
            endpoint.last_success = now
            return False
        if outcome is IGNORED:
            return False
        endpoint.failures += 1
        if endpoint.failures < self._settings.consecutive_failures or not self._may_eject(endpoint, now):
            return False
        self._eject(endpoint, now)
        return True

    def ejected(self, index: int, now: float) -> bool:
        """Whether this endpoint is left out."""
        return self.health[index].ejected_until > now

    def ejected_count(self, now: float) -> int:
        """How many endpoints are left out."""
        return len([endpoint for endpoint in self.health if endpoint.ejected_until > now])

    def _may_eject(self, endpoint: EndpointHealth, now: float) -> bool:
        return self.ejected_count(now) < self._max_ejected and any(
            other is not endpoint and other.available(now) for other in self.health
        )

    def _eject(self, endpoint: EndpointHealth, now: float) -> None:
        good_service = endpoint.last_success - endpoint.ejected_until
        while endpoint.ejections and good_service >= (served := self._duration(endpoint.ejections - 1)):
            good_service -= served
            endpoint.ejections -= 1
        endpoint.ejected_until = now + self._duration(endpoint.ejections)
        endpoint.failures = 0
        # An ejection that no longer lengthens the next one is not counted, so that it need not be forgiven either.
        if not endpoint.ejections or self._duration(endpoint.ejections - 1) < self._settings.max_time:
            endpoint.ejections += 1

    def _duration(self, earlier: int) -> float:
        return min(self._settings.max_time, self._settings.base_time * 2.0 ** min(earlier, 64))

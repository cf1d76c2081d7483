"""Which endpoint of an upstream the next attempt goes to.

Every strategy prefers an endpoint that is available and that this request has not tried yet. If there is none, it takes
any available endpoint; if none is available, any endpoint at all. The last rule is the panic mode of Envoy: when every
endpoint looks bad, it is more likely that the signal is wrong than that all of them are dead, and refusing everything
would be certain failure. (Envoy's default, panic when half of the endpoints are bad, does not suit upstreams of two or
three endpoints.)

Left out on purpose: locality, stickiness, slow start.
"""

import random
from collections.abc import Collection, Sequence
from typing import Generic, Protocol, TypeVar


class Balanced(Protocol):
    """An endpoint as a strategy sees it.

    `weight` (>= 1) is relative to the others and does not change. `in_flight` attempts are under way.
    """

    @property
    def weight(self) -> int: ...

    @property
    def in_flight(self) -> int: ...

    def available(self, now: float) -> bool:
        """Neither ejected nor failing its health checks."""
        ...


E = TypeVar("E", bound=Balanced)


class Balancer(Generic[E]):
    """A strategy over the endpoints that it was made with. A class and no protocol, as `gateway.fleet.limiter.Limiter`
    is."""

    __slots__ = ()

    def pick(self, now: float, exclude: Collection[E] = ()) -> E | None:
        """An endpoint for the next attempt; None only when the upstream has none. `exclude` are those already tried."""
        raise NotImplementedError


class RoundRobin(Balancer[E]):
    """Smooth weighted round-robin, as in nginx.

    Each pick adds its weight to every candidate's credit, takes the candidate with the highest credit, and charges it
    the sum of the weights. So weights 5, 1, 1 give a a b a c a a and not a a a a a b c. A pick costs O(number of
    endpoints) when weights differ, and O(1) otherwise.
    """

    __slots__ = ("_credits", "_endpoints", "_equal", "_next", "_only", "_weights")

    def __init__(self, endpoints: Sequence[E]) -> None:
        self._endpoints = tuple(endpoints)
        self._only = self._endpoints[0] if len(self._endpoints) == 1 else None
        self._weights = [endpoint.weight for endpoint in self._endpoints]
        self._equal = len(set(self._weights)) <= 1
        self._credits = [0] * len(self._endpoints)
        self._next = 0

    def pick(self, now: float, exclude: Collection[E] = ()) -> E | None:
        """See `Balancer.pick`. HOT."""
        if self._only is not None:
            return self._only
        endpoints = self._endpoints
        if self._equal:
            for _ in endpoints:
                endpoint = endpoints[self._next]
                self._next = (self._next + 1) % len(endpoints)
                if endpoint.available(now) and endpoint not in exclude:
                    return endpoint
            return self._smooth(_candidates(endpoints, now, exclude))
        fresh = [i for i, endpoint in enumerate(endpoints) if endpoint.available(now) and endpoint not in exclude]
        return self._smooth(fresh or _candidates(endpoints, now, exclude))

    def _smooth(self, candidates: Sequence[int]) -> E | None:
        total = 0
        best = -1
        credit = self._credits
        weights = self._weights
        for index in candidates:
            weight = weights[index]
            total += weight
            credit[index] += weight
            if best < 0 or credit[index] > credit[best]:
                best = index
        if best < 0:
            return None
        credit[best] -= total
        return self._endpoints[best]


class LeastInFlight(Balancer[E]):
    """The less loaded of two random endpoints (Mitzenmacher, The Power of Two Choices, 1996), O(1) in their number.

    The load is `in_flight / weight`, as in nginx's least_conn. The first of the two is drawn in proportion to weight,
    the second evenly from the others, and the second is taken only if its load is strictly less. So an idle upstream is
    shared by weight. It is not the minimum of all endpoints, because replicas that all see the same minimum would send
    everything to it.
    """

    __slots__ = ("_alias", "_endpoints", "_keep", "_only", "_random")

    def __init__(self, endpoints: Sequence[E], rng: random.Random) -> None:
        self._endpoints = tuple(endpoints)
        self._only = self._endpoints[0] if len(self._endpoints) == 1 else None
        self._random = rng.random
        self._keep, self._alias = _alias_table([endpoint.weight for endpoint in self._endpoints])

    def pick(self, now: float, exclude: Collection[E] = ()) -> E | None:
        """See `Balancer.pick`. HOT."""
        if self._only is not None:
            return self._only
        endpoints = self._endpoints
        count = len(endpoints)
        if not count:
            return None
        draw = self._random() * count
        i = int(draw)
        if draw - i >= self._keep[i]:
            i = self._alias[i]
        j = int(self._random() * (count - 1))
        if j >= i:
            j += 1
        first = endpoints[i]
        second = endpoints[j]
        if first.available(now) and first not in exclude:
            if (
                second.in_flight * first.weight < first.in_flight * second.weight
                and second.available(now)
                and second not in exclude
            ):
                return second
            return first
        if second.available(now) and second not in exclude:
            return second
        return self._among(_candidates(endpoints, now, exclude))

    def _among(self, candidates: Sequence[int]) -> E:
        """The same choice over a part of the endpoints. It costs O(its size), and is rare."""
        endpoints = [self._endpoints[index] for index in candidates]
        draw = self._random() * sum([endpoint.weight for endpoint in endpoints])
        first = endpoints[-1]
        for endpoint in endpoints:
            draw -= endpoint.weight
            if draw < 0.0:
                first = endpoint
                break
        second = endpoints[int(self._random() * len(endpoints))]
        return second if second.in_flight * first.weight < first.in_flight * second.weight else first


def _candidates(endpoints: Sequence[E], now: float, exclude: Collection[E]) -> Sequence[int]:
    """Indices of the best non-empty class of endpoints, in the order of preference above."""
    available = [index for index, endpoint in enumerate(endpoints) if endpoint.available(now)]
    pool: Sequence[int] = available or range(len(endpoints))
    return [index for index in pool if endpoints[index] not in exclude] or pool


def _alias_table(weights: Sequence[int]) -> tuple[list[float], list[int]]:
    """Walker's alias method as by Vose: draw a column evenly, keep it with its probability, else take its alias."""
    count = len(weights)
    total = sum(weights)
    keep = [weight * count / total for weight in weights]
    alias = list(range(count))
    small = [index for index, share in enumerate(keep) if share < 1.0]
    large = [index for index, share in enumerate(keep) if share >= 1.0]
    while small and large:
        less = small.pop()
        more = large[-1]
        alias[less] = more
        keep[more] -= 1.0 - keep[less]
        if keep[more] < 1.0:
            small.append(large.pop())
    for index in small + large:  # they are left over because of rounding
        keep[index] = 1.0
    return keep, alias

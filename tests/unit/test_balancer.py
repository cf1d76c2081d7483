import random
from collections import Counter
from collections.abc import Sequence

import pytest

from gateway.policy.balancer import Balancer, LeastInFlight, RoundRobin


class Endpoint:
    def __init__(self, name: str, weight: int = 1, in_flight: int = 0) -> None:
        self.name = name
        self.weight = weight
        self.in_flight = in_flight
        self.up = True
        self.asked = 0

    def __repr__(self) -> str:
        return self.name

    def available(self, now: float) -> bool:
        self.asked += 1
        return self.up


def endpoints(*weights: int) -> list[Endpoint]:
    return [Endpoint("abcdefgh"[index % 8], weight) for index, weight in enumerate(weights)]


def picks(balancer: Balancer[Endpoint], count: int, exclude: Sequence[Endpoint] = ()) -> str:
    return "".join(str(balancer.pick(0.0, exclude)) for _ in range(count))


def strategies(members: list[Endpoint]) -> list[Balancer[Endpoint]]:
    return [RoundRobin(members), LeastInFlight(members, random.Random(1))]


def test_round_robin_takes_turns() -> None:
    assert picks(RoundRobin(endpoints(1, 1, 1)), 7) == "abcabca"
    assert picks(RoundRobin(endpoints(7, 7)), 5) == "ababa"


def test_round_robin_with_weights_is_smooth() -> None:
    assert picks(RoundRobin(endpoints(5, 1, 1)), 14) == "aabacaa" * 2  # the example of nginx' commit
    assert picks(RoundRobin(endpoints(1, 2)), 6) == "babbab"


def test_round_robin_skips_what_is_not_available() -> None:
    members = endpoints(1, 1, 1)
    members[1].up = False
    assert picks(RoundRobin(members), 4) == "acac"
    weighted = endpoints(2, 1, 1)
    weighted[0].up = False
    assert picks(RoundRobin(weighted), 4) == "bcbc"


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 2, 1)])
@pytest.mark.parametrize("strategy", [0, 1])
def test_preference(weights: tuple[int, ...], strategy: int) -> None:
    a, b, c = members = endpoints(*weights)
    balancer = strategies(members)[strategy]
    assert set(picks(balancer, 200)) == {"a", "b", "c"}
    assert set(picks(balancer, 50, [a])) == {"b", "c"}
    assert set(picks(balancer, 50, [a, b])) == {"c"}
    assert set(picks(balancer, 200, [a, b, c])) == {"a", "b", "c"}, "all were tried: any will do"
    c.up = False
    assert set(picks(balancer, 50, [a])) == {"b"}
    assert set(picks(balancer, 200, [a, b])) == {"a", "b"}, "available and tried before not available"
    a.up = b.up = False
    assert set(picks(balancer, 200)) == {"a", "b", "c"}, "panic: none is available"
    assert set(picks(balancer, 50, [a, b])) == {"c"}


def test_a_single_endpoint_is_always_the_answer_and_is_not_even_asked() -> None:
    for balancer in strategies(only := endpoints(3)):
        only[0].up = False
        assert balancer.pick(0.0) is only[0]
        assert balancer.pick(0.0, only) is only[0]
        assert only[0].asked == 0


def test_no_endpoints_no_pick() -> None:
    assert [balancer.pick(0.0) for balancer in strategies([])] == [None, None]


def test_least_in_flight_takes_the_less_loaded_of_two() -> None:
    members = endpoints(1, 1)
    members[0].in_flight = 3
    members[1].in_flight = 2
    assert picks(LeastInFlight(members, random.Random(1)), 100) == "b" * 100
    members[0].weight = 2
    assert picks(LeastInFlight(members, random.Random(1)), 100) == "a" * 100


@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (5, 3, 1, 1), (1000, 1, 1, 1), (1, 1)])
def test_an_idle_upstream_is_shared_by_weight(weights: tuple[int, ...]) -> None:
    members = endpoints(*weights)
    count = Counter(picks(LeastInFlight(members, random.Random(5)), 50_000))
    for member in members:
        assert count[member.name] / 50_000 == pytest.approx(member.weight / sum(weights), abs=0.01)


def test_under_load_requests_in_flight_follow_the_weights() -> None:
    members = endpoints(4, 2, 1, 1)
    balancer = LeastInFlight(members, random.Random(5))
    for _ in range(800):
        picked = balancer.pick(0.0)
        assert picked is not None
        picked.in_flight += 1
    assert [member.in_flight for member in members] == pytest.approx([400, 200, 100, 100], rel=0.1)


def test_two_choices_keep_the_fullest_close_to_the_average() -> None:
    members = endpoints(*[1] * 100)
    balancer = LeastInFlight(members, random.Random(5))
    for _ in range(10_000):
        picked = balancer.pick(0.0)
        assert picked is not None
        picked.in_flight += 1
    assert max(member.in_flight for member in members) <= 104, "one random choice would give about 125"


def test_a_pick_among_many_asks_only_the_two_it_drew() -> None:
    members = endpoints(*range(1, 1001))
    balancer = LeastInFlight(members, random.Random(5))
    for _ in range(1000):
        balancer.pick(0.0)
    assert sum(member.asked for member in members) <= 2000

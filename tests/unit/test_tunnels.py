"""How many tunnels a route may have, who is refused one, and what the log says of them."""

import logging
import random

import pytest

from gateway.config.sections.routes.model import RouteConfig
from gateway.proxy.tunnels.lines import TunnelLines
from gateway.proxy.tunnels.tunnels import Tunnels


def tunnels(most: int, share: float = 1.0) -> Tunnels:
    return Tunnels(RouteConfig("chat", "/", "u", websocket=True, max_tunnels=most, tunnel_client_share=share))


class Highest(random.Random):
    """Of each jitter the most."""

    def random(self) -> float:
        return 0.999


RNG = Highest()


def test_the_route_is_full_for_everybody_and_a_client_for_itself() -> None:
    route = tunnels(4, 0.5)
    for client in ("a", "a", "b"):
        assert route.refusal(client, 0.0, RNG) is None
        route.take(client, 0.0)
    refusal = route.refusal("a", 0.0, RNG)
    assert refusal is not None
    assert (refusal.status, refusal.reason, refusal.retry_after) == (429, "client_tunnel_limit", None)
    assert refusal.detail == "the client has 2 tunnels open on the route chat, the most that it may"
    assert route.refusal("b", 0.0, RNG) is None
    route.take("b", 0.0)
    refusal = route.refusal("c", 0.0, RNG)
    assert refusal is not None
    assert (refusal.status, refusal.reason) == (503, "tunnel_limit")
    route.give_back("a", 1.0)
    assert route.refusal("a", 1.0, RNG) is None
    for client in ("a", "b", "b"):
        route.give_back(client, 1.0)
    assert route.count == 0
    assert not route._held, "nothing is kept of clients that have left"


def test_a_share_is_rounded_up() -> None:
    assert [tunnels(most, 0.8).client_most for most in (1, 2, 10, 1000)] == [1, 2, 8, 800]


def retry_after(route: Tunnels, now: float) -> int:
    refusal = route.refusal("new", now, random.Random(1))
    assert refusal is not None
    assert refusal.retry_after is not None
    return refusal.retry_after


def test_retry_after_is_how_long_a_place_has_taken_of_late() -> None:
    route = tunnels(1)
    route.take("a", 0.0)
    assert 1 <= retry_after(route, 0.1) <= 2
    assert 30 <= retry_after(route, 30.0) <= 36, "nobody has left within 30 s"
    assert 60 <= retry_after(route, 4000.0) <= 72
    for second in range(4000, 4040, 5):
        route.give_back("a", float(second))
        route.take("a", float(second))
    assert 4 <= retry_after(route, 4040.0) <= 6, "one has left every 5 s"


class Lines:
    """The lines of a route whose clock the test moves."""

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        self.route = tunnels(10)
        self.now = 100.0
        self.lines = TunnelLines([("chat", self.route)], lambda: self.now)
        self._caplog = caplog
        caplog.set_level(logging.INFO)

    def after(self, seconds: float) -> list[str]:
        """What is written in that time."""
        self._caplog.clear()
        for _ in range(int(seconds)):
            self.now += 1.0
            self.lines.write()
        return [record.getMessage() for record in self._caplog.records]


def test_active_connections_are_told_when_they_change_and_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines(caplog)
    assert lines.after(100) == []
    lines.route.take("a", 0.0)
    assert lines.after(1) == ["WebSocket route chat: 1 active connections of 10"]
    lines.route.take("a", 0.0)
    assert lines.after(8) == []
    lines.route.take("a", 0.0)
    assert lines.after(2) == ["WebSocket route chat: 3 active connections of 10"]
    assert lines.after(120) == ["WebSocket route chat: 3 active connections of 10"] * 2
    for _ in range(3):
        lines.route.give_back("a", 0.0)
    assert lines.after(300) == ["WebSocket route chat: 0 active connections of 10"]


def test_closed_tunnels_are_summed_up(caplog: pytest.LogCaptureFixture) -> None:
    lines = Lines(caplog)
    lines.route.ended["client"] += 5
    assert lines.after(2) == []
    lines.route.ended["backpressure_client"] += 2
    lines.route.ended["backpressure_upstream"] += 1
    lines.route.ended["unresponsive_client"] += 1
    slow = "WebSocket route chat: closed 3 tunnels, backpressure: a side took nothing of what waited for it for 30 s"
    assert lines.after(3) == [
        f"{slow} (the client of 2, the upstream of 1)",
        "WebSocket route chat: closed 1 tunnel, a side answered no Ping for 30 s (the client of 1, the upstream of 0)",
    ]

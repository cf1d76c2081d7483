"""Which upstream a request of a split route gets: by turns, by who asks, or by a field; without a socket."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from gateway.assembly.gateway import build
from gateway.config import load
from gateway.identity.tenants import Caller
from gateway.proxy.destinations.split import Split
from gateway.proxy.gate import Question
from gateway.proxy.routes.topology import Route
from gateway.proxy.ticket import Ticket
from gateway.telemetry.log.lines import LineWriter
from tests.support.tickets import request, ticket

SPLITS = {
    "turns": {"to": [{"upstream": "stable", "weight": 3}, {"upstream": "canary", "weight": 1}]},
    "client": {"to": [{"upstream": "stable"}, {"upstream": "canary"}], "sticky": "client"},
    "field": {"to": [{"upstream": "stable"}, {"upstream": "canary"}], "sticky": "field", "field": "X-User"},
    "done": {"to": [{"upstream": "stable", "weight": 0}, {"upstream": "canary", "weight": 7}]},
    "fallback": {"to": [{"upstream": "stable"}, {"upstream": "canary"}], "sticky": "client"},
}


@pytest.fixture
async def routes(tmp_path: Path) -> AsyncIterator[dict[str, Route]]:
    upstreams = {name: {"endpoints": [f"127.0.0.1:{port}"]} for port, name in enumerate(("stable", "canary"), 1)}
    made = [{"name": name, "prefix": f"/{name}", "split": split} for name, split in SPLITS.items()]
    made[-1]["fallback"] = {"upstream": "stable"}
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump({"upstreams": upstreams, "routes": made}))
    config = await asyncio.to_thread(load, {"GATEWAY_CONFIG": str(file)}, None)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    writer = LineWriter(nowhere)
    yield {route.name: route for route in build(config, writer).topology.routes}
    writer.close()
    os.close(nowhere)


def of(routes: dict[str, Route], name: str) -> Split:
    split = routes[name].split
    assert split is not None
    return split


def chosen(split: Split, peer: str = "192.0.2.1", *lines: str, consumer: str | None = None) -> Ticket:
    made = ticket(request(b"/a", *lines), peer=peer)
    if consumer is not None:
        made.caller = Caller(consumer, "", frozenset(), None, ())
    split.choose(made)
    return made


async def test_by_turns_and_each_is_counted_where_it_goes(routes: dict[str, Route]) -> None:
    split = of(routes, "turns")
    for _ in range(40):
        chosen(split)
    assert split.counts == [30, 10]


async def test_the_log_and_the_figures_have_the_upstream_that_was_chosen(routes: dict[str, Route]) -> None:
    split = of(routes, "turns")
    made = [chosen(split) for _ in range(4)]
    assert sorted(each.account.service for each in made) == ["canary", "stable", "stable", "stable"]
    assert all(each.account.name == "turns" for each in made)
    assert all(each.log_part.known["upstream"] == each.account.service for each in made)
    # One for each upstream, and not for each request.
    part = made[0].log_part
    assert part.of_upstream("canary") is part.of_upstream("canary")


async def test_a_client_keeps_its_upstream_on_every_route_that_splits_alike(routes: dict[str, Route]) -> None:
    peers = [f"192.0.2.{last}" for last in range(64)]
    first = [chosen(of(routes, "client"), peer).variant for peer in peers]
    assert set(first) == {0, 1}
    assert [chosen(of(routes, "client"), peer).variant for peer in peers] == first
    assert [chosen(of(routes, "fallback"), peer).variant for peer in peers] == first


async def test_who_is_known_keeps_its_upstream_wherever_it_comes_from(routes: dict[str, Route]) -> None:
    split = of(routes, "client")
    for consumer in ("web", "mobile", "batch", "partner"):
        seen = {chosen(split, f"192.0.2.{last}", consumer=consumer).variant for last in range(32)}
        assert len(seen) == 1
    assert len({chosen(split, consumer=f"c{number}").variant for number in range(32)}) == 2


async def test_a_field_counts_and_without_it_the_client(routes: dict[str, Route]) -> None:
    split = of(routes, "field")
    peers = [f"192.0.2.{last}" for last in range(32)]
    for value in ("ann", "bob", "cid"):
        assert len({chosen(split, peer, f"x-USER:  {value} ").variant for peer in peers}) == 1
    assert {chosen(split, "192.0.2.1", f"X-User: u{number}").variant for number in range(32)} == {0, 1}
    bare = [chosen(split, peer).variant for peer in peers]
    assert bare == [chosen(of(routes, "client"), peer).variant for peer in peers]
    assert bare == [chosen(split, peer, "X-User:").variant for peer in peers]
    # The name of another field that ends alike, and a value that looks like the field, are not it.
    assert bare == [chosen(split, peer, "Not-X-User: ann", "Y: X-User: ann").variant for peer in peers]


async def test_a_choice_is_made_once(routes: dict[str, Route]) -> None:
    route = routes["turns"]
    made = ticket(request(b"/turns"))
    gate = next(gate for gate in route.chain.gates if gate.name == "split")
    for _ in range(5):
        assert gate.check(made) is None
    assert sum(of(routes, "turns").counts) == 1


async def test_an_upstream_without_weight_gets_nothing(routes: dict[str, Route]) -> None:
    split = of(routes, "done")
    assert {chosen(split).account.service for _ in range(20)} == {"canary"}
    assert split.foreseen(Question("192.0.2.1", False, "GET", 0.0)) == 1


async def test_a_fallback_skips_the_upstream_that_was_asked_already(routes: dict[str, Route]) -> None:
    hops = of(routes, "fallback").hops
    assert [[hop.upstream.name for hop in each] for each in hops] == [[], ["stable"]]


async def test_what_is_foreseen_is_what_comes(routes: dict[str, Route]) -> None:
    split = of(routes, "client")
    for last in range(32):
        peer = f"192.0.2.{last}"
        assert split.foreseen(Question(peer, False, "GET", 0.0)) == chosen(split, peer).variant
    assert of(routes, "turns").foreseen(Question("192.0.2.1", False, "GET", 0.0)) is None

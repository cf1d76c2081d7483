"""Hedges in the configuration: what a route or the environment says, and what cannot work."""

from pathlib import Path

import pytest

from gateway.config import ConfigError, load, read
from gateway.config.report.text import as_text
from gateway.policy.hedge import HedgeSettings


def environ(directory: Path, hedge: str, more: str = "", **variables: str) -> dict[str, str]:
    file = directory / "gateway.yaml"
    said = f"    hedge: {hedge}\n" if hedge else ""
    file.write_text(
        "upstreams:\n  main: {endpoints: ['127.0.0.1:1']}\n"
        f"routes:\n  - name: a\n    prefix: /a\n    upstream: main\n{said}{more}"
    )
    return {"GATEWAY_CONFIG": str(file), "JOURNAL_URL": f"sqlite:///{directory}/journal.db", **variables}


def hedge_of(directory: Path, hedge: str, more: str = "", **variables: str) -> HedgeSettings | None:
    return load(environ(directory, hedge, more, **variables), None).routes[0].hedge


@pytest.mark.parametrize(
    ("hedge", "meant"),
    [
        ("", None),
        ("{after: off}", None),
        ("{min_after: 5ms}", None),
        ("{after: p95}", HedgeSettings()),
        ("{after: p90}", HedgeSettings(quantile=0.9)),
        ("{after: p99, min_after: 5ms, min_observations: 50}", HedgeSettings(None, 0.99, 0.005, 50)),
        ("{after: 50ms}", HedgeSettings(after=0.05)),
        ("{after: 0.05}", HedgeSettings(after=0.05)),
        ("{after: 2}", HedgeSettings(after=2.0)),
    ],
)
def test_what_a_route_says(hedge: str, meant: HedgeSettings | None, tmp_path: Path) -> None:
    assert hedge_of(tmp_path, hedge) == meant


@pytest.mark.parametrize("after", ["soon", "p80", "p100", "0ms", "2m", "-1", "true", "[]", "nan"])
def test_what_is_no_time_is_refused(after: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        hedge_of(tmp_path, f"{{after: {after}}}")
    (problem,) = caught.value.problems
    assert "off, p90, p95, p99, or a time from 1 ms to 60 s" in str(problem)


def test_the_environment_speaks_for_all_routes_that_say_nothing(tmp_path: Path) -> None:
    assert hedge_of(tmp_path, "", HEDGE_AFTER="p95", HEDGE_MIN_OBSERVATIONS="50") == HedgeSettings(min_observations=50)
    assert hedge_of(tmp_path, "{after: off}", HEDGE_AFTER="p95") is None
    assert hedge_of(tmp_path, "{min_after: 3ms}", HEDGE_AFTER="p95") == HedgeSettings(min_after=0.003)
    own = load({"UPSTREAM_URL": "http://127.0.0.1:1", "HEDGE_AFTER": "20ms"}, None)
    assert own.routes[0].hedge == HedgeSettings(after=0.02)


def test_a_route_that_delivers_has_none(tmp_path: Path) -> None:
    delivers = "    deliver: {enabled: true}\n"
    with pytest.raises(ConfigError) as caught:
        hedge_of(tmp_path, "{after: p95}", delivers)
    assert "nothing on a route with deliver or workflow" in str(caught.value)
    assert hedge_of(tmp_path, "", delivers, HEDGE_AFTER="p95") is None


@pytest.mark.parametrize(("after", "late"), [("9s", False), ("10s", True)])
def test_a_hedge_after_the_end_of_every_attempt_is_worth_a_notice(after: str, late: bool, tmp_path: Path) -> None:
    for hedge, variables in ((f"{{after: {after}}}", {}), ("", {"HEDGE_AFTER": after})):
        loaded = read(environ(tmp_path, hedge, **variables), None)
        notices = [each for each in loaded.notices if "never comes" in each.text]
        assert bool(notices) is late
        assert not late or notices[0].text == "it never comes: an attempt ends after 10 s"


def test_gateway_routes_shows_it_only_where_there_is_one(tmp_path: Path) -> None:
    loaded = read(environ(tmp_path, "{after: p95}"), None)
    lines = [line.split() for line in as_text(loaded, {}, 1).splitlines()]
    at = lines.index(["Hedges"])
    assert lines[at + 2] == ["a", "p95", "0.01s", "100"]
    assert "Hedges" not in as_text(read(environ(tmp_path, ""), None), {}, 1)

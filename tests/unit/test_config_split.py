"""Splits in the configuration: what a route says, and what cannot work."""

from pathlib import Path

import pytest

from gateway.config import ConfigError, load, read
from gateway.config.report.text import as_text
from gateway.config.sections.routes.model import RouteConfig
from gateway.config.sections.split.model import SplitConfig

UPSTREAMS = """\
upstreams:
  stable: {endpoints: ['127.0.0.1:1']}
  canary: {endpoints: ['127.0.0.1:2']}
  other: {endpoints: ['127.0.0.1:3']}
"""
EVEN = "[{upstream: stable}, {upstream: canary}]"


def environ(directory: Path, split: str, more: str = "") -> dict[str, str]:
    file = directory / "gateway.yaml"
    file.write_text(f"{UPSTREAMS}routes:\n  - name: a\n    prefix: /a\n    split: {split}\n{more}")
    return {"GATEWAY_CONFIG": str(file), "JOURNAL_URL": f"sqlite:///{directory}/journal.db"}


def route(directory: Path, split: str, more: str = "") -> RouteConfig:
    return load(environ(directory, split, more), None).routes[0]


def problems(directory: Path, split: str, more: str = "") -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ(directory, split, more), None)
    return [line.replace(f"{directory}/", "") for line in str(caught.value).splitlines() if "gateway.yaml" in line]


def test_weights_and_what_a_client_keeps_its_upstream_by(tmp_path: Path) -> None:
    made = route(tmp_path, "{to: [{upstream: stable, weight: 95}, {upstream: canary, weight: 5}], sticky: client}")
    assert made.split == SplitConfig((("stable", 95), ("canary", 5)), "client")
    assert (made.upstream, made.upstreams) == ("stable", ("stable", "canary"))


def test_equal_weights_and_nothing_sticky_unless_it_says_so(tmp_path: Path) -> None:
    assert route(tmp_path, f"{{to: {EVEN}}}").split == SplitConfig((("stable", 1), ("canary", 1)), "none")


def test_a_field(tmp_path: Path) -> None:
    made = route(tmp_path, f"{{to: {EVEN}, sticky: field, field: X-Session}}").split
    assert made is not None
    assert (made.sticky, made.field) == ("field", "X-Session")


def test_a_fallback_may_lead_to_an_upstream_of_the_split(tmp_path: Path) -> None:
    made = route(tmp_path, f"{{to: {EVEN}}}", "    fallback: {upstream: stable}\n")
    assert made.fallback is not None
    assert made.fallback.upstreams == ("stable",)


def test_all_upstreams_of_a_split_are_used(tmp_path: Path) -> None:
    loaded = read(environ(tmp_path, f"{{to: {EVEN}}}"), None)
    unused = [notice.source for notice in loaded.notices if notice.text == "no route uses it"]
    assert [source.split()[1] for source in unused] == ["upstreams.other"]


def test_gateway_routes_has_a_table_of_splits(tmp_path: Path) -> None:
    wanted = "{to: [{upstream: stable, weight: 3}, {upstream: canary}], sticky: field, field: X-User}"
    lines = [line.split() for line in as_text(read(environ(tmp_path, wanted), None), {}, 1).splitlines()]
    at = lines.index(["Splits"])
    assert lines[at + 2 : at + 4] == [
        ["a", "stable", "3", "75", "%", "X-User"],
        ["a", "canary", "1", "25", "%", "X-User"],
    ]


@pytest.mark.parametrize(
    ("split", "more", "where", "what"),
    [
        ("{to: [{upstream: stabel}, {upstream: canary}]}", "", ":8", "did you mean stable?"),
        ("{to: [{upstream: stable}, {upstream: stable}]}", "", ":8", "each upstream once"),
        ("{to: [{upstream: stable, weight: 0}]}", "", ":8", "at least one weight above 0"),
        ("{to: [{upstream: stable, weight: -1}]}", "", ":8", "0 to 1000000"),
        ("{to: [{upstream: stable, weight: 1.5}]}", "", ":8", "0 to 1000000"),
        ("{to: []}", "", ":8", "at least one {upstream, weight}"),
        ("{sticky: client}", "", ":8", "at least one {upstream, weight}"),
        (f"{{to: {EVEN}, sticky: field}}", "", ":8", "field with split.field"),
        (f"{{to: {EVEN}, field: X-User}}", "", ":8", "unless split.sticky is field"),
        (f"{{to: {EVEN}, sticky: cookie}}", "", ":8", "none or client or field"),
        (f"{{to: {EVEN}}}", "    upstream: other\n", ":9", "nothing on a route with split"),
        (f"{{to: {EVEN}}}", "    deliver: {enabled: true}\n", ":8", "nothing on a route with deliver or workflow"),
        (f"{{to: {EVEN}}}", "    fallback: {upstream: nobody}\n", ":9", "stable, canary, other"),
    ],
)
def test_what_cannot_work(tmp_path: Path, split: str, more: str, where: str, what: str) -> None:
    found = problems(tmp_path, split, more)
    assert any(f"gateway.yaml{where}" in line and what in line for line in found), found

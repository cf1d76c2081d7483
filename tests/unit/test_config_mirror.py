"""Mirrors in the configuration: what a route says, and what cannot work."""

from pathlib import Path

import pytest

from gateway.config import ConfigError, load, read
from gateway.config.report.text import as_text
from gateway.config.sections.mirror.model import MirrorConfig
from gateway.config.worker_shares import share_of

UPSTREAMS = """\
upstreams:
  main: {endpoints: ['127.0.0.1:1']}
  shadow: {endpoints: ['127.0.0.1:2']}
  other: {endpoints: ['127.0.0.1:3']}
"""
OTHER = "  - {name: b, prefix: /b, upstream: other}\n"


def environ(directory: Path, mirror: str, more: str = "", others: str = "") -> dict[str, str]:
    file = directory / "gateway.yaml"
    routes = f"routes:\n  - name: a\n    prefix: /a\n    upstream: main\n    mirror: {mirror}\n{more}{others}"
    file.write_text(UPSTREAMS + routes)
    return {"GATEWAY_CONFIG": str(file), "JOURNAL_URL": f"sqlite:///{directory}/journal.db"}


def mirror_of(directory: Path, mirror: str, more: str = "", others: str = "") -> MirrorConfig | None:
    return load(environ(directory, mirror, more, others), None).routes[0].mirror


def test_the_name_of_a_shadow_is_enough(tmp_path: Path) -> None:
    assert mirror_of(tmp_path, "{upstream: shadow}") == MirrorConfig("shadow")


def test_all_of_it(tmp_path: Path) -> None:
    wanted = (
        "{upstream: shadow, percent: 2.5, methods: [GET], max_in_flight: 7, max_body_bytes: 1KiB, max_answer_bytes: 0}"
    )
    assert mirror_of(tmp_path, wanted) == MirrorConfig("shadow", 2.5, frozenset({"GET"}), 7, 1024, 0)


def test_the_shadow_is_used_and_may_be_that_of_several_routes(tmp_path: Path) -> None:
    second = "  - {name: b, prefix: /b, upstream: main, mirror: {upstream: shadow}}\n"
    loaded = read(environ(tmp_path, "{upstream: shadow}", others=second), None)
    unused = [notice.source for notice in loaded.notices if notice.text == "no route uses it"]
    assert [source.split()[1] for source in unused] == ["upstreams.other"]


def test_workers_share_the_copies(tmp_path: Path) -> None:
    config = load(environ(tmp_path, "{upstream: shadow, max_in_flight: 5}"), None)
    shares = [share_of(config, 2, slot).routes[0].mirror for slot in range(2)]
    assert [each.max_in_flight for each in shares if each is not None] == [3, 2]


def test_gateway_routes_has_a_table_of_mirrors(tmp_path: Path) -> None:
    loaded = read(environ(tmp_path, "{upstream: shadow, percent: 10, methods: [HEAD, GET]}"), None)
    lines = [line.split() for line in as_text(loaded, {}, 1).splitlines()]
    at = lines.index(["Mirrors"])
    assert lines[at + 2] == ["a", "shadow", "10", "GET,HEAD", "50", "65536", "1048576"]


@pytest.mark.parametrize(
    ("mirror", "more", "others", "where", "what"),
    [
        ("{percent: 5}", "", "", ":9", "the name of an upstream"),
        ("{upstream: shadwo}", "", "", ":9", "did you mean shadow?"),
        ("{upstream: main}", "", "", ":9", "only mirrors use; route a uses this one"),
        ("{upstream: other}", "    fallback: {upstream: other}\n", "", ":9", "route a uses this one"),
        ("{upstream: other}", "", OTHER, ":9", "route b uses this one"),
        ("{upstream: shadow, percent: 101}", "", "", ":9", "0 to 100"),
        ("{upstream: shadow, percent: -1}", "", "", ":9", "0 to 100"),
        ("{upstream: shadow, methods: [POST]}", "    methods: [GET]\n", "", ":9", "methods that the route takes: GET"),
        ("{upstream: shadow, max_in_flight: 0}", "", "", ":9", "1 to 10000"),
        (
            "{upstream: shadow}",
            "    deliver: {enabled: true}\n",
            "",
            ":9",
            "nothing on a route with deliver or workflow",
        ),
    ],
)
def test_what_cannot_work(tmp_path: Path, mirror: str, more: str, others: str, where: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ(tmp_path, mirror, more, others), None)
    found = [line for line in str(caught.value).splitlines() if "gateway.yaml" in line]
    assert any(f"gateway.yaml{where}" in line and what in line for line in found), found

"""Rewriting of paths in the configuration."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import ConfigError, load, read
from gateway.config.report.text import as_text


def environ(directory: Path, rules: Any, **route: object) -> dict[str, str]:
    file = directory / "gateway.yaml"
    routes = [{"name": "a", "prefix": "/a", "upstream": "a", "rewrite": rules, **route}]
    file.write_text(yaml.safe_dump({"upstreams": {"a": {"endpoints": ["127.0.0.1:1"]}}, "routes": routes}))
    return {"GATEWAY_CONFIG": str(file), "JOURNAL_URL": f"sqlite:///{directory}/journal.db"}


def test_rules_are_kept_in_order_and_shown(tmp_path: Path) -> None:
    rules = [{"path": "/a/{id}", "to": "/b/{id}"}, {"path": "/a/{rest*}", "to": "/c/{rest}"}]
    loaded = read(environ(tmp_path, rules), None)
    assert loaded.config.routes[0].rewrites == (("/a/{id}", "/b/{id}"), ("/a/{rest*}", "/c/{rest}"))
    assert "/a/{rest*}  /c/{rest}" in as_text(loaded, {}, 1)


@pytest.mark.parametrize(
    ("rules", "where", "about"),
    [
        ([{"path": "a", "to": "/b"}], "routes[0].rewrite[0].path", "literal segments"),
        ([{"path": "/a", "to": "/b"}, {"path": "/a", "to": "/{x}"}], "routes[0].rewrite[1].to", "no names"),
        ([{"path": "/a"}], "routes[0].rewrite[0].to", "literal segments"),
        ([{"from": "/a", "path": "/a", "to": "/b"}], "routes[0].rewrite[0].from", "path, to"),
        ("/a", "routes[0].rewrite", "a list of {path, to}"),
    ],
)
def test_what_cannot_work_is_said(rules: Any, where: str, about: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ(tmp_path, rules), None)
    (line,) = str(caught.value).splitlines()
    assert where in line
    assert about in line


def test_a_route_that_delivers_rewrites_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing on a route with deliver"):
        load(environ(tmp_path, [{"path": "/a", "to": "/b"}], deliver={"enabled": True}), None)

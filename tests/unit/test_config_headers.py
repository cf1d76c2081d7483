"""Changes of header fields in the configuration: what is meant, what cannot work, and that no value is shown."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import ConfigError, load, read
from gateway.config.report.plain import as_json, flat
from gateway.config.report.text import as_text
from gateway.config.sections.headers.model import FieldChanges
from gateway.syntax.owned_fields import owned
from gateway.wire.message import fields

ISSUER = {"issuer": "i", "audience": ["a"], "algorithms": ["HS256"], "secret_file": "secret", "fields": {"X-Mail": "m"}}


def environ(directory: Path, *, upstream: object = None, **route: object) -> dict[str, str]:
    (directory / "secret").write_text("s" * 40)
    file = directory / "gateway.yaml"
    upstreams: dict[str, Any] = {"a": {"endpoints": ["127.0.0.1:1"]}}
    if upstream is not None:
        upstreams["a"]["request_headers"] = upstream
    routes = [{"name": "a", "prefix": "/a", "upstream": "a", **route}]
    issuers = {"i": ISSUER | {"secret_file": str(directory / "secret")}}
    file.write_text(yaml.safe_dump({"upstreams": upstreams, "routes": routes, "issuers": issuers}))
    return {"GATEWAY_CONFIG": str(file), "KEY": "s3cret"}


def problems(directory: Path, **given: Any) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ(directory, **given), None)
    return str(caught.value).splitlines()


def test_without_a_word_fields_pass_as_they_come(tmp_path: Path) -> None:
    made = load(environ(tmp_path), None)
    route = made.routes[0]
    assert (made.upstreams["a"].request_headers, route.request_headers, route.response_headers) == (None, None, None)


def test_what_is_said(tmp_path: Path) -> None:
    both = {"set": {"X-A": "1"}, "append": {"X-B": "2"}, "remove": ["X-C"]}
    made = load(environ(tmp_path, upstream=both, request_headers=both, response_headers={"remove": ["Server"]}), None)
    wanted = FieldChanges(("X-C",), (("X-A", "1"),), (("X-B", "2"),))
    assert made.upstreams["a"].request_headers == wanted
    assert made.routes[0].request_headers == wanted
    assert made.routes[0].response_headers == FieldChanges(remove=("Server",))


def test_a_value_may_come_from_the_environment_and_is_never_shown(tmp_path: Path) -> None:
    both = {"set": {"Authorization": "Bearer ${KEY}"}, "append": {"X-Key": "${KEY}"}}
    loaded = read(environ(tmp_path, upstream=both), None)
    changes = loaded.config.upstreams["a"].request_headers
    assert changes is not None
    assert changes.set == (("Authorization", "Bearer s3cret"),)
    shown = f"{loaded.config!r} {as_text(loaded, {}, 1)} {as_json(loaded, {}, 1)}"
    assert "s3cret" not in shown
    assert json.loads(as_json(loaded, {}, 1))["upstreams"]["a"]["request_headers"]["set"] == "***"
    assert "Header fields" in as_text(loaded, {}, 1)
    assert [secret for name, value, secret in flat(loaded.config) if "s3cret" in value] == [True, True]


@pytest.mark.parametrize("name", sorted(fields._REQUEST))
def test_what_the_gateway_reads_or_sets_of_requests_cannot_be_changed(name: bytes) -> None:
    assert owned(name.decode(), "request")
    assert owned(name.decode().replace("-", "_").upper(), "request")


@pytest.mark.parametrize("name", sorted(fields._RESPONSE))
def test_what_the_gateway_reads_or_sets_of_answers_cannot_be_changed(name: bytes) -> None:
    assert owned(name.decode(), "answer")


@pytest.mark.parametrize("name", ["Authorization", "Cookie", "X-API-Key", "User-Agent", "Accept", "X-Forward"])
def test_others_can(name: str) -> None:
    assert not owned(name, "request")


@pytest.mark.parametrize("part", ["set", "append", "remove"])
@pytest.mark.parametrize("name", ["Host", "X-Forwarded-User", "Content-Length", "x_tenant", "X-Mail"])
def test_fields_of_the_gateway_are_refused(name: str, part: str, tmp_path: Path) -> None:
    changes = {part: [name] if part == "remove" else {name: "s3cret"}}
    (line,) = problems(tmp_path, request_headers=changes)
    assert f"routes[0].request_headers.{part}" in line
    assert "the gateway itself reads or sets this one" in line
    assert "s3cret" not in line


@pytest.mark.parametrize("name", ["Location", "Retry-After", "RateLimit", "X-Request-ID", "Transfer-Encoding"])
def test_those_of_answers_too(name: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, response_headers={"set": {name: "1"}})
    assert "the gateway itself reads or sets this one" in line


@pytest.mark.parametrize("value", ["", " a", "a\r\nX: y", "a\nb", "s3cret\x00", "s3crét", "s3cret" * 2000])
def test_values_that_no_field_has(value: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, upstream={"set": {"X-A": value}})
    assert "upstreams.a.request_headers.set.X-A: ***; allowed: 1 to 8192 visible ASCII characters" in line


@pytest.mark.parametrize("name", ["X A", "X:A", "", "Ä", "x" * 65])
def test_names_that_no_field_has(name: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, response_headers={"append": {name: "1"}})
    assert "allowed: the name of a header field" in line


def test_a_route_that_delivers_changes_none(tmp_path: Path) -> None:
    env = environ(tmp_path, deliver={"enabled": True}, request_headers={"remove": ["X-A"]})
    with pytest.raises(ConfigError, match="nothing on a route with deliver"):
        load({**env, "JOURNAL_URL": f"sqlite:///{tmp_path}/journal.db"}, None)

"""Idempotency keys in the configuration: what a route inherits, and what cannot work."""

from pathlib import Path

import pytest
import yaml

from gateway.config import ConfigError, load
from gateway.config.model import GatewayConfig
from gateway.config.sections.idempotency.model import IdempotencyConfig

UPSTREAMS = {"a": {"endpoints": ["127.0.0.1:1"]}}


def config(directory: Path, route: dict[str, object], **environ: str) -> GatewayConfig:
    file = directory / "gateway.yaml"
    routes = [{"name": "a", "prefix": "/a", "upstream": "a", **route}]
    file.write_text(yaml.safe_dump({"upstreams": UPSTREAMS, "routes": routes}))
    return load({"GATEWAY_CONFIG": str(file), "JOURNAL_URL": f"sqlite:///{directory}/journal.db", **environ}, None)


def problems(directory: Path, route: dict[str, object], **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(directory, route, **environ)
    return str(caught.value).splitlines()


def test_without_a_word_about_it_keys_mean_nothing_and_there_is_no_journal(tmp_path: Path) -> None:
    made = config(tmp_path, {})
    assert made.routes[0].idempotency is None
    assert not made.journal_needed


def test_a_route_takes_what_it_leaves_out_from_the_environment(tmp_path: Path) -> None:
    made = config(
        tmp_path,
        {"idempotency": {"mode": "required", "ttl": "30m", "methods": ["POST"]}},
        IDEMPOTENCY_WAIT_SECONDS="5",
        IDEMPOTENCY_DEFAULT_TTL_HOURS="6",
    )
    assert made.journal_needed
    assert made.routes[0].idempotency == IdempotencyConfig(
        required=True, methods=frozenset({"POST"}), ttl=1800.0, wait=5.0
    )


def test_hours_are_those_of_the_runbook(tmp_path: Path) -> None:
    made = config(
        tmp_path,
        {},
        IDEMPOTENCY_MODE="optional",
        IDEMPOTENCY_DEFAULT_TTL_HOURS="6",
        IDEMPOTENCY_MAX_RECORDS="5000",
        IDEMPOTENCY_CLEANUP_INTERVAL_HOURS="0.5",
    )
    route = made.routes[0].idempotency
    assert route is not None
    assert (route.ttl, made.idempotency.max_records, made.idempotency.cleanup_interval) == (21_600.0, 5000, 1800.0)


@pytest.mark.parametrize(("url", "records"), [("sqlite:////tmp/journal.db", 10_000), ("postgresql://h/db", 1_000_000)])
def test_how_many_records_are_usual_depends_on_where_they_are(tmp_path: Path, url: str, records: int) -> None:
    assert config(tmp_path, {}, JOURNAL_URL=url).idempotency.max_records == records


def test_keys_of_a_tenant_need_to_know_the_tenant(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, {"idempotency": {"mode": "optional", "scope": "tenant"}})
    assert line.endswith('routes[0].idempotency.scope: "tenant"; allowed: client, or a route with authentication')
    assert problems(tmp_path, {}, IDEMPOTENCY_MODE="optional", IDEMPOTENCY_SCOPE="tenant") != []
    # It is the default of routes that have keys; this one has none.
    config(tmp_path, {}, IDEMPOTENCY_SCOPE="tenant")


@pytest.mark.parametrize(
    ("settings", "at"),
    [
        ({"mode": "yes"}, "mode"),
        ({"mode": "optional", "methods": []}, "methods"),
        ({"mode": "optional", "methods": ["GET"]}, "methods"),
        ({"mode": "optional", "ttl": 0}, "ttl"),
        ({"mode": "optional", "wait": 61}, "wait"),
        ({"mode": "optional", "keep": True}, "keep"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, settings: dict[str, object], at: str) -> None:
    (line,) = problems(tmp_path, {"idempotency": settings})
    assert f"routes[0].idempotency.{at}" in line


def test_a_journal_where_nobody_may_write_is_a_mistake_only_where_it_is_needed(tmp_path: Path) -> None:
    nowhere = "sqlite:////proc/nowhere/journal.db"
    config(tmp_path, {}, JOURNAL_URL=nowhere)
    (line,) = problems(tmp_path, {"idempotency": {"mode": "optional"}}, JOURNAL_URL=nowhere)
    assert line.startswith("environment JOURNAL_URL: ")
    assert "/proc/nowhere" in line

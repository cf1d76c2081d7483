"""The outbox in the configuration: what a route says, and what cannot work."""

import base64
from pathlib import Path

import pytest
import yaml

from gateway.config import ConfigError, load
from gateway.config.model import GatewayConfig
from gateway.config.sections.deliver.model import METHODS, DeliverConfig, OutboxLimits

UPSTREAMS = {"a": {"endpoints": ["127.0.0.1:1"]}}
SECRET = b"s" * 32


def config(directory: Path, route: dict[str, object], **environ: str) -> GatewayConfig:
    file = directory / "gateway.yaml"
    routes = [{"name": "a", "prefix": "/a", "upstream": "a", **route}]
    file.write_text(yaml.safe_dump({"upstreams": UPSTREAMS, "routes": routes}))
    return load({"GATEWAY_CONFIG": str(file), "JOURNAL_URL": f"sqlite:///{directory}/journal.db", **environ}, None)


def problems(directory: Path, route: dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        config(directory, route)
    return str(caught.value).splitlines()


def written(directory: Path, text: str) -> str:
    path = directory / "secrets"
    path.write_text(text)
    return str(path)


def test_without_a_word_about_it_requests_go_on_at_once(tmp_path: Path) -> None:
    made = config(tmp_path, {})
    assert (made.routes[0].deliver, made.journal_needed, made.outbox) == (None, False, OutboxLimits())


def test_what_a_route_leaves_out_is_what_standard_webhooks_has(tmp_path: Path) -> None:
    made = config(tmp_path, {"deliver": {"enabled": True}})
    assert made.journal_needed
    assert made.routes[0].deliver == DeliverConfig()
    assert made.routes[0].methods == METHODS


def test_durations_and_sizes_are_written_as_everywhere(tmp_path: Path) -> None:
    given: dict[str, object] = {"enabled": True, "schedule": ["5s", "5m"], "max_message_bytes": "1KiB"}
    given |= {"order_by": "X-Key", "timeout": "3s"}
    deliver = config(tmp_path, {"deliver": given}).routes[0].deliver
    assert deliver == DeliverConfig(schedule=(5.0, 300.0), max_message_bytes=1024, order_by="X-Key", timeout=3.0)


def test_limits_are_in_hours(tmp_path: Path) -> None:
    made = config(
        tmp_path,
        {},
        OUTBOX_MAX_PENDING="7",
        OUTBOX_MAX_BYTES="2MiB",
        OUTBOX_DELIVERED_RETENTION_HOURS="2",
        OUTBOX_DEAD_RETENTION_HOURS="3",
    )
    assert made.outbox == OutboxLimits(7, 2_097_152, 7200.0, 10_800.0)


def test_secrets_are_read_and_not_shown(tmp_path: Path) -> None:
    text = f"whsec_{base64.b64encode(SECRET).decode()}\n\nwhsec_{base64.b64encode(SECRET[1:]).decode()}"
    deliver = config(tmp_path, {"deliver": {"enabled": True, "secret_file": written(tmp_path, text)}}).routes[0].deliver
    assert deliver is not None
    assert deliver.secrets == (SECRET, SECRET[1:])
    assert "sss" not in repr(deliver)


@pytest.mark.parametrize(
    "text", ["", "whsec_", "whsec_short", "whsec_c2hvcnQ=", "c3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3Nzc3M=", "\xff"]
)
def test_a_file_without_secrets_is_a_mistake(tmp_path: Path, text: str) -> None:
    (line,) = problems(tmp_path, {"deliver": {"enabled": True, "secret_file": written(tmp_path, text)}})
    assert "routes[0].deliver.secret_file" in line
    assert "whsec_ and 24 to 64 bytes in base64" in line


def test_a_secret_in_place_of_its_file_is_not_shown(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, {"deliver": {"enabled": True, "secret_file": "whsec_abcdef"}})
    assert "abcdef" not in line


def test_a_method_whose_answer_cannot_wait_is_a_mistake(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, {"deliver": {"enabled": True}, "methods": ["POST", "GET"]})
    assert line.endswith('routes[0].methods: "GET"; allowed: DELETE, PATCH, POST, PUT on a route with deliver')


@pytest.mark.parametrize(
    ("settings", "at"),
    [
        ({"enabled": "yes"}, "enabled"),
        ({"schedule": [0]}, "schedule"),
        ({"timeout": 0}, "timeout"),
        ({"concurrency": 0}, "concurrency"),
        ({"order_by": "a b"}, "order_by"),
        ({"jitter": 2}, "jitter"),
        ({"mode": "on"}, "mode"),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, settings: dict[str, object], at: str) -> None:
    (line,) = problems(tmp_path, {"deliver": settings})
    assert f"routes[0].deliver.{at}" in line


def test_the_host_of_a_client_is_not_kept(tmp_path: Path) -> None:
    said = problems(tmp_path, {"deliver": {"enabled": True}, "preserve_host": True})
    assert any("preserve_host" in each and "deliver or workflow" in each for each in said), said
    assert config(tmp_path, {"deliver": {"enabled": True}, "preserve_host": False}).routes[0].preserve_host is False

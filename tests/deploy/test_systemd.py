"""The units of systemd for a gateway without containers name what exists, and allow the gateway its times."""

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from gateway.config import load

ROOT = Path(__file__).resolve().parents[2]
UNITS = ("gateway.service", "gateway.socket")


def unit(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(ROOT / "deploy" / name)
    return parser


def test_the_service_runs_the_gateway_and_stops_it_in_its_time() -> None:
    service = unit("gateway.service")["Service"]
    assert service["Type"] == "notify-reload"
    assert service["ExecStart"].endswith("/gateway run")
    # Signals for the workers come from the supervisor.
    assert service["KillMode"] == "mixed"
    assert service["NotifyAccess"] == "main"
    assert float(service["WatchdogSec"]) > 0
    assert int(service["LimitNOFILE"]) > load({}, None).server.max_connections
    server = load({}, ROOT / ".env.prod").server
    assert float(service["TimeoutStopSec"]) > server.drain_delay + server.drain_timeout


def test_the_way_without_notify_reload_is_in_the_unit_and_in_the_documentation() -> None:
    older = configparser.ConfigParser(interpolation=None)
    text = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
    older.read_string(text.partition("```ini\n")[2].partition("```")[0])
    unit_text = (ROOT / "deploy/gateway.service").read_text(encoding="utf-8")
    assert older.options("Service") == ["type", "execreload"]
    for line in (f"Type={older['Service']['Type']}", f"ExecReload={older['Service']['ExecReload']}"):
        assert line in unit_text


def test_the_socket_is_the_port_of_the_settings() -> None:
    assert unit("gateway.socket")["Socket"]["ListenStream"] == str(load({}, None).server.port)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    for name in UNITS:
        text = (ROOT / "deploy" / name).read_text()
        # What is installed later, and the user, are not there yet; an older systemd does not know the type.
        text = text.replace("/opt/gateway/.venv/bin/gateway", "/bin/true").replace("notify-reload", "notify")
        (tmp_path / name).write_text(text.replace("User=gateway\n", ""))
    done = subprocess.run(
        ["systemd-analyze", "verify", *(str(tmp_path / name) for name in UNITS)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")

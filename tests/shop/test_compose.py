"""The shop in Compose: valid for both versions, and the same shop as that of `make shop`."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from shop.common.settings import Settings
from shop.processes import PACKAGE, SERVICES, Ports

from gateway.config import load
from tests.deploy.compose_rules import violations
from tests.deploy.test_compose import compose_command, environment
from tests.deploy.tools import run, tool
from tests.support.processes import ROOT

FILE = PACKAGE / "docker-compose.yml"
TEXT = FILE.read_text(encoding="utf-8")
COMPOSED: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
EDGE = (PACKAGE / "edge.conf").read_text(encoding="utf-8")
PORTS = dataclasses.asdict(Ports())
# What PORT and its like are called is said by the code that reads them.
READ = set(re.findall(r'given\.get\("(\w+)"', (PACKAGE / "common/settings.py").read_text(encoding="utf-8")))


def test_both_versions_understand_it_alike() -> None:
    assert violations(yaml.safe_load(TEXT), TEXT) == []


def test_compose_accepts_it(tmp_path: Path) -> None:
    command = compose_command(tmp_path)
    answer = run([*command, "-f", str(FILE), "config", "-q"], tmp_path, environment(tmp_path, ""))
    assert answer.returncode == 0, answer.stdout


def test_what_it_mounts_and_builds_is_there() -> None:
    for name, service in COMPOSED.items():
        for volume in service.get("volumes", ()):
            if isinstance(volume, dict):
                assert (PACKAGE / volume["source"]).exists(), name
        if "build" in service:
            assert (PACKAGE / service["build"]["context"]).resolve() == ROOT
            assert f"AS {service['build']['target']}" in (ROOT / "Dockerfile").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_has_the_settings_that_it_reads(name: str) -> None:
    service = COMPOSED[name]
    assert service["command"] == ["python", "-m", f"shop.{name}"]
    assert set(service["environment"]) <= READ
    settings = Settings.of(name, PORTS[name], service["environment"])
    assert settings.host == "0.0.0.0"  # noqa: S104 - in a container
    assert settings.database_url == f"postgresql://shop:shop@postgres/{name}"
    assert f"CREATE DATABASE {name};" in (PACKAGE / "postgres.sql").read_text(encoding="utf-8")
    assert f"http://127.0.0.1:{PORTS[name]}/health" in service["healthcheck"]["test"]
    assert Settings.of("orders", 8001, COMPOSED["orders"]["environment"]).gateway_url == "http://gateway:8000"


def test_the_gateway_finds_the_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    variables = COMPOSED["gateway"]["environment"]
    config = load(variables, PACKAGE / "gateway.env")
    assert config.server.port == PORTS["gateway"]
    assert variables["JOURNAL_URL"] == "postgresql://shop:shop@postgres/gateway"
    assert "CREATE DATABASE gateway;" in (PACKAGE / "postgres.sql").read_text(encoding="utf-8")
    found = {
        name: [f"{each.host}:{each.port}" for each in upstream.endpoints] for name, upstream in config.upstreams.items()
    }
    assert found == {name: [f"{name}:{PORTS[name]}"] for name in SERVICES}


def test_every_port_is_published_by_the_edge_alone_so_that_the_others_scale(tmp_path: Path) -> None:
    mapped = {name: int(port) for port, name in re.findall(r"^    (\d+) (\w+);$", EDGE, re.MULTILINE)}
    assert mapped == PORTS
    assert {int(port) for port in re.findall(r"listen (\d+);", EDGE)} == set(PORTS.values())
    assert COMPOSED["edge"]["ports"] == [f"127.0.0.1:{port}:{port}" for port in PORTS.values()]
    assert not any("ports" in COMPOSED[name] or "container_name" in COMPOSED[name] for name in PORTS)
    wrapper = tmp_path / "nginx.conf"
    wrapper.write_text(
        f"pid {tmp_path}/pid; error_log stderr; events {{}}\n"
        f"http {{ access_log off; client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;\n"
        f" fastcgi_temp_path {tmp_path}/fcgi; uwsgi_temp_path {tmp_path}/uwsgi; scgi_temp_path {tmp_path}/scgi;\n"
        f" include {PACKAGE}/edge.conf; }}\n",
        encoding="utf-8",
    )
    nginx = "/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else tool("nginx")
    answer = run([nginx, "-t", "-c", str(wrapper)], tmp_path)
    assert answer.returncode == 0, answer.stdout


def test_the_edge_starts_when_every_service_behind_it_answers() -> None:
    """Before that it would answer 502. A busy machine has two minutes for it."""
    assert COMPOSED["edge"]["depends_on"] == {name: {"condition": "service_healthy"} for name in PORTS}
    for name in PORTS:
        assert COMPOSED[name]["healthcheck"]["start_period"] == "2m", name


def test_prometheus_asks_every_process_and_its_alerts_fire_where_they_should() -> None:
    directory = PACKAGE / "monitoring"
    jobs = yaml.safe_load((directory / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    asked = {job["dns_sd_configs"][0]["names"][0]: job["dns_sd_configs"][0]["port"] for job in jobs}
    assert asked == PORTS
    for arguments in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts_test.yml"]):
        answer = run([tool("promtool"), *arguments], directory)
        assert answer.returncode == 0, answer.stdout

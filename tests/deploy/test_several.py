"""`deploy.sh` with several gateways: to them, back from them, and one by one, against a docker that starts nothing.

What matters: new gateways are there before old ones stop, and nothing stops for a deployment that cannot succeed.
"""

import re
import socket
from pathlib import Path

import pytest

from tests.deploy.deployment import Deployment

SCALE = "COMPOSE_FILE=docker-compose.prod.yml:docker-compose.scale.yml\nDOCKER_PUBLISH=127.0.0.1:\n"
BRIDGES_END = "stop -t 45 gateway-bridge-"
THREE = ["gw-one-1", "gw-one-2", "gw-one-3"]


def scale(deployment: Deployment) -> None:
    """From now on .env decides, as on a real host: three gateways behind nginx, on the same port as the single one."""
    port = deployment.variables.pop("DOCKER_PUBLISH", deployment.port)
    deployment.set_env(f"{deployment.env()}DOCKER_PUBLISH={port}\n")
    deployment.single = deployment.env()
    assert deployment("prod")[0] == 0
    deployment.docker.calls()
    deployment.set_env(f"{deployment.env()}{SCALE}DOCKER_NGINX_PUBLISH={deployment.port}\n")


@pytest.fixture(scope="module")
def several_once(deployed_once: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    deployed = deployed_once.copied(tmp_path_factory.mktemp("several"))
    scale(deployed)
    status, output = deployed("prod")
    assert status == 0, output
    assert deployed.docker.running() == [*THREE, "nginx"]
    (deployed.docker.directory / "ports/nginx").write_text(f"8080/tcp -> 0.0.0.0:{deployed.port}\n", encoding="utf-8")
    deployed.docker.calls()
    return deployed


@pytest.fixture
def several(several_once: Deployment, tmp_path: Path) -> Deployment:
    """Three gateways behind nginx, and one before them to go back to."""
    return several_once.copied(tmp_path)


def order(calls: list[str], *parts: str) -> list[int]:
    """Where each of them comes first."""
    missing = [part for part in parts if not any(part in call for call in calls)]
    assert missing == [], calls
    return [next(i for i, call in enumerate(calls) if part in call) for part in parts]


def test_from_one_to_several_the_new_ones_are_ready_before_the_old_one_stops(deployed: Deployment) -> None:
    scale(deployed)
    assert deployed("prod")[0] == 0
    calls = deployed.docker.calls()
    steps = order(calls, "start nginx", "stop -t 45 gw-one", "connect --alias nginx", "exec gw-one-3", BRIDGES_END)
    assert steps == sorted(steps)
    assert not [call for call in calls if call.startswith("replaced")]
    assert deployed.docker.running() == [*THREE, "nginx"]


def test_from_several_to_one_nginx_gives_up_its_port_and_then_the_old_ones_stop(several: Deployment) -> None:
    several.set_env(several.single)
    with socket.create_server(("127.0.0.1", several.port)):  # as nginx, which is no stranger
        status, output = several("prod")
    assert status == 0, output
    assert "stopping nginx, which has left COMPOSE_FILE" in output
    calls = several.docker.calls()
    steps = order(
        calls,
        "exec gateway-bridge-",
        "stop -t 45 gw-one-1",
        "start gw-one",
        "exec gw-one ",
        "stop nginx",
        "connect --alias proxy-service",
        BRIDGES_END,
    )
    assert steps == sorted(steps)
    assert several.docker.running() == ["gw-one"]


def test_nobody_is_advised_to_remove_what_has_left_compose_file(several: Deployment) -> None:
    """`run` of docker-compose 1.29 does it, whatever COMPOSE_IGNORE_ORPHANS says."""
    several.docker.fault("orphans")
    several.set_env(several.single)
    with socket.create_server(("127.0.0.1", several.port)):
        status, output = several("prod")
    assert status == 0, output
    assert "--remove-orphans" not in output


def test_rollback_from_several_to_one(several: Deployment) -> None:
    with socket.create_server(("127.0.0.1", several.port)):
        status, output = several("rollback")
    assert status == 0, output
    assert several.docker.running() == ["gw-one"]
    assert several("rollback")[0] == 0
    assert several.docker.running() == [*THREE, "nginx"]


def test_rollback_looks_before_it_stops_anything(several: Deployment) -> None:
    (several.docker.directory / "ports/nginx").unlink()
    later = several.env()
    with socket.create_server(("127.0.0.1", several.port)):
        status, output = several("rollback")
    assert status == 1
    assert f"Port {several.port} is taken by another program." in output
    assert several.docker.touched() == []
    assert several.docker.running() == [*THREE, "nginx"]
    assert several.env() == later


def test_a_new_image_never_stops_all(several: Deployment) -> None:
    several.docker.source("two")
    assert several("prod")[0] == 0
    calls = several.docker.calls()
    assert not [call for call in calls if call.startswith("replaced")]
    steps = order(
        calls, "exec gateway-bridge-", "stop -t 45 gw-one-1", "stop -t 45 gw-one-3", "exec gw-two-3", BRIDGES_END
    )
    assert steps == sorted(steps)
    assert several.docker.running() == ["gw-two-1", "gw-two-2", "gw-two-3", "nginx"]


def test_again_without_a_change_replaces_none(several: Deployment) -> None:
    assert several("prod")[0] == 0
    assert [call for call in several.docker.touched() if not call.startswith("tag ")] == ["compose up -d"]


def test_new_ones_that_do_not_serve_go_and_the_old_ones_come_back(several: Deployment) -> None:
    several.docker.source("two")
    several.docker.fault("up")
    status, output = several("prod")
    assert status == 1
    assert "what ran before runs again" in output
    assert several.docker.running() == [*THREE, "nginx"], "and nothing else"


def test_a_single_one_that_cannot_start_gives_the_port_back(several: Deployment) -> None:
    later = several.env()
    several.set_env(several.single)
    several.docker.fault("start")
    with socket.create_server(("127.0.0.1", several.port)):
        assert several("prod")[0] == 1
    assert several.docker.running() == [*THREE, "nginx"]
    assert several.env() == later


def test_containers_that_have_ended_are_removed_first(several: Deployment) -> None:
    (several.docker.directory / "containers/gw-dead").write_text("proxy-service x y exited\n", encoding="utf-8")
    several.docker.source("two")
    assert several("prod")[0] == 0
    assert several.docker.running() == ["gw-two-1", "gw-two-2", "gw-two-3", "nginx"]


def test_restart_goes_one_by_one(several: Deployment) -> None:
    status, output = several("restart")
    assert status == 0, output
    calls = [call for call in several.docker.calls() if call.startswith("restart ") or "readyz" in call]
    for gateway in THREE:
        index = calls.index(f"restart -t 45 {gateway}")
        assert calls[index + 1].startswith(f"exec {gateway} ")


def test_changed_settings_reload_one_after_the_other(several: Deployment) -> None:
    several.set_env(several.env() + "LOG_LEVEL=WARNING\n")
    status, output = several("prod")
    assert status == 0, output
    calls = [call for call in several.docker.calls() if re.search("^restart |HUP|readyz", call)]
    for gateway in THREE:
        index = calls.index(f"exec {gateway} sh -c kill -HUP 1")
        assert calls[index + 1].startswith(f"exec {gateway} ")
    assert not [call for call in calls if call.startswith("restart ")]


def test_restart_tries_the_settings_first(several: Deployment) -> None:
    several.docker.fault("check", ".env:7 RATE_LIMIT_CAPACTY: unknown name")
    status, output = several("restart")
    assert status == 1
    assert "RATE_LIMIT_CAPACTY" in output
    assert several.docker.touched() == []


def test_restart_of_nothing(deployed: Deployment) -> None:
    assert deployed("stop")[0] == 0
    deployed.docker.calls()
    status, output = deployed("restart")
    assert status == 1
    assert "No gateway runs." in output
    assert deployed.docker.touched() == []


@pytest.mark.parametrize(
    ("files", "publish", "message"),
    [
        ("docker-compose.prod.yml:docker-compose.scale.yml", "5000", "needs DOCKER_PUBLISH=127.0.0.1:"),
        ("docker-compose.prod.yml:docker-compose.scale.yml", "", "needs DOCKER_PUBLISH=127.0.0.1:"),
        ("docker-compose.prod.yml", "127.0.0.1:", "a single gateway needs a port"),
    ],
)
def test_half_of_the_change_is_refused(files: str, publish: str, message: str, deployed: Deployment) -> None:
    del deployed.variables["DOCKER_PUBLISH"]
    deployed.set_env(f"{deployed.env()}COMPOSE_FILE={files}\nDOCKER_PUBLISH={publish}\n")
    status, output = deployed("prod")
    assert status == 1
    assert message in output
    assert deployed.docker.touched() == []


def test_rollback_where_nothing_was_deployed(deploy: Deployment) -> None:
    # An image of that name may be another checkout's.
    deploy.docker.tag("resilient-api-gateway:previous", "theirs")
    deploy.set_env((deploy.clone / ".env.prod").read_text(encoding="utf-8"))
    status, output = deploy("rollback")
    assert status == 1
    assert "Nothing was deployed from this directory" in output
    assert deploy.docker.calls() == []
    assert not (deploy.clone / ".deploy").exists()


def test_monitoring_of_1_29_has_a_project_of_its_own(deployed: Deployment) -> None:
    assert deployed("monitoring")[0] == 0
    assert "compose -f docker-compose.monitoring.yml up -d" in deployed.docker.calls()
    (deployed.docker.directory / "version").write_text("1.29.2\n", encoding="utf-8")
    assert deployed("monitoring", "kill", "-s", "HUP", "prometheus")[0] == 0
    wanted = "compose -p api-gateway-monitoring -f docker-compose.monitoring.yml kill -s HUP prometheus"
    assert wanted in deployed.docker.calls()

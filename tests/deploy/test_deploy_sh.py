"""`deploy.sh` against a docker that starts nothing: the order of its steps, and every way it can fail.

What matters in each failure: a non-zero exit, a message that says what to do, and what ran before still runs.
"""

import os
import re
import shutil
import signal
import socket
import stat
from pathlib import Path

import pytest

from gateway.control.models.workers import LastReload, Workers
from gateway.telemetry.log.render import rfc3339
from tests.deploy.deployment import CANDIDATE, LATEST, PREVIOUS, Deployment
from tests.deploy.tools import run, tool
from tests.support.processes import ROOT, ChildProcess


def test_from_clone_to_production(deploy: Deployment) -> None:
    status, output = deploy("prod")
    assert status == 0, output
    assert "deployed. Next: curl http://localhost:" in output
    assert deploy.docker.running() == ["gw-one"]
    assert deploy.docker.image(LATEST) == "one"
    assert deploy.docker.image(CANDIDATE) is None
    calls = deploy.docker.calls()
    steps = [
        next(i for i, call in enumerate(calls) if step in call)
        for step in ("build", "gateway check", "--name", "up -d")
    ]
    assert steps == sorted(steps)


def test_settings_are_made_from_the_template_and_kept_private(deploy: Deployment) -> None:
    assert deploy("prod")[0] == 0
    first = deploy.env()
    assert re.search(r"^REDIS_PASSWORD=[0-9a-f]{48}$", first, re.MULTILINE)
    assert not stat.S_IMODE((deploy.clone / ".env").stat().st_mode) & 0o007
    assert not stat.S_IMODE((deploy.clone / ".deploy").stat().st_mode) & 0o077
    assert deploy("prod")[0] == 0
    assert deploy.env() == first


def test_an_empty_password_in_a_copied_template_is_filled_in(deploy: Deployment) -> None:
    shutil.copy(deploy.clone / ".env.prod", deploy.clone / ".env")
    assert deploy("prod")[0] == 0
    assert re.search(r"^REDIS_PASSWORD=[0-9a-f]{48}$", deploy.env(), re.MULTILINE)


def test_development_has_its_own_template_and_tag(deploy: Deployment) -> None:
    status, output = deploy("dev")
    assert status == 0, output
    assert "COMPOSE_FILE" not in deploy.env()
    assert deploy.docker.image("resilient-api-gateway:dev") == "one"
    assert deploy.docker.image(LATEST) is None


def test_again_changes_nothing(deployed: Deployment) -> None:
    status, output = deployed("prod")
    assert status == 0, output
    assert deployed.docker.image(PREVIOUS) is None
    assert not any(call.startswith("restart") for call in deployed.docker.calls())


def renewed(deployment: Deployment) -> list[str]:
    """The calls since the last time that give a gateway its new settings."""
    return [call for call in deployment.docker.calls() if call.startswith("restart ") or "HUP" in call]


RELOAD, RESTART = "exec gw-one sh -c kill -HUP 1", "restart -t 45 gw-one"


def test_changed_settings_reload_what_compose_leaves(deployed: Deployment) -> None:
    for level in ("WARNING", "ERROR"):
        deployed.set_env(f"{deployed.env()}LOG_LEVEL={level}\n")
        status, output = deployed("prod")
        assert status == 0, output
        assert "reloaded in place" in output
        assert renewed(deployed) == [RELOAD]
    assert deployed("prod")[0] == 0
    assert renewed(deployed) == [], "and nothing without a change"


@pytest.mark.parametrize(
    ("fault", "calls", "message"),
    [
        ("old", [RESTART], "it does not show reloads on this port (an older image, or ADMIN_PORT)"),
        ("stale", [RESTART], "its container does not have the new files yet"),
        ("refuse", [RELOAD, RESTART], "it has refused the reload; its log says why"),
        ("unheard", [RELOAD, RESTART], "it cannot be told to reload"),
        ("deaf", [RELOAD, RESTART], "it has not reloaded within 1 s"),
    ],
)
def test_a_gateway_that_does_not_reload_is_restarted(
    fault: str, calls: list[str], message: str, deployed: Deployment
) -> None:
    deployed.set_env(deployed.env() + "LOG_LEVEL=WARNING\n")
    deployed.docker.fault(fault)
    status, output = deployed("prod")
    assert status == 0, output
    assert f"restarting the gateway: {message}" in output
    assert renewed(deployed) == calls


def test_a_control_plane_that_moves_away_is_not_waited_for(deployed: Deployment) -> None:
    deployed.set_env(deployed.env() + "ADMIN_PORT=5002\n")
    assert deployed("prod")[0] == 0
    assert renewed(deployed) == [RESTART]


def test_restart_restarts_although_it_could_reload(deployed: Deployment) -> None:
    deployed.set_env(deployed.env() + "LOG_LEVEL=WARNING\n")
    assert deployed("restart")[0] == 0
    assert renewed(deployed) == [RESTART]


def test_settings_with_which_a_reloaded_gateway_is_not_ready_are_taken_back_with_a_restart(
    deployed: Deployment,
) -> None:
    deployed.set_env(deployed.env() + "HOST=127.0.0.1\n")
    deployed.docker.fault("settings", "HOST=127.0.0.1")
    assert deployed("prod")[0] == 1
    assert renewed(deployed) == [RELOAD, RESTART]


def test_the_answer_of_a_gateway_is_read_as_it_is_written(tmp_path: Path) -> None:
    said = Workers(
        answered_by=0, wanted=1, ready=1, restarts={"died": 0}, config_hash="a", workers=[],
        last_reload=LastReload(successful=True, time=rfc3339(1.5), problems=0),
    )  # fmt: skip
    docker = tmp_path / "docker"
    docker.write_text(f"#!/bin/sh\ncat <<'TEXT'\n{said.model_dump_json(by_alias=True)}\nTEXT\n", encoding="utf-8")
    docker.chmod(0o755)
    script = 'time_of "$(last_reload any)"; has_reloaded any 1970-01-01T00:00:01.499Z && echo new'
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    answer = run([tool("bash"), "-c", f". scripts/gateways.sh; {script}"], ROOT, environment)
    assert answer.stdout == "1970-01-01T00:00:01.500Z\nnew\n"


def test_a_new_image_keeps_the_old_one_as_previous_and_rollback_returns(deployed: Deployment) -> None:
    before = deployed.env()
    deployed.docker.source("two")
    deployed.set_env(before + "LOG_LEVEL=WARNING\n")
    assert deployed("prod")[0] == 0
    assert (deployed.docker.image(LATEST), deployed.docker.image(PREVIOUS)) == ("two", "one")
    status, output = deployed("rollback")
    assert status == 0, output
    assert (deployed.docker.image(LATEST), deployed.docker.image(PREVIOUS)) == ("one", "two")
    assert deployed.docker.running() == ["gw-one"]
    assert deployed.env() == before
    assert deployed("rollback")[0] == 0
    assert deployed.docker.running() == ["gw-two"]
    assert deployed.env().endswith("LOG_LEVEL=WARNING\n")


def test_rollback_without_a_previous_deployment(deployed: Deployment) -> None:
    status, output = deployed("rollback")
    assert status == 1
    assert "no deployment before this one" in output
    assert deployed.docker.touched() == []


@pytest.mark.parametrize(
    ("fault", "text", "message"),
    [
        ("daemon", "", "The Docker daemon does not answer: Cannot connect to the Docker daemon"),
        ("build", "", "The image could not be built."),
        ("check", ".env:7 RATE_LIMIT_CAPACTY: unknown name", ".env:7 RATE_LIMIT_CAPACTY: unknown name"),
        ("trial", "", "The new gateway did not become ready"),
    ],
)
def test_what_runs_is_not_touched_by(fault: str, text: str, message: str, deployed: Deployment) -> None:
    deployed.docker.source("two")
    deployed.docker.fault(fault, text)
    status, output = deployed("prod")
    assert status == 1
    assert message in output
    assert deployed.docker.touched() == []
    assert deployed.docker.running() == ["gw-one"], "and no trial gateway is left behind"
    assert deployed.docker.image(LATEST) == "one"


def test_the_logs_of_a_gateway_that_never_became_ready_are_shown(deployed: Deployment) -> None:
    deployed.docker.fault("trial")
    assert "the log lines of the trial" in deployed("prod")[1]


def test_a_taken_port(deploy: Deployment) -> None:
    with socket.create_server(("127.0.0.1", deploy.port)):
        status, output = deploy("prod")
    assert status == 1
    assert f"Port {deploy.port} is taken by another program." in output
    assert not any("build" in call for call in deploy.docker.calls())
    assert deploy.docker.running() == []


def test_failing_after_the_switch_goes_back(deployed: Deployment) -> None:
    deployed.docker.source("two")
    deployed.docker.fault("up")
    status, output = deployed("prod")
    assert status == 1
    assert "the log lines that matter" in output
    assert "what ran before runs again" in output
    assert deployed.docker.running() == ["gw-one"]
    assert deployed.docker.image(LATEST) == "one"


def test_settings_that_fail_after_the_switch_are_put_aside(deployed: Deployment) -> None:
    good = deployed.env()
    deployed.set_env(good + "HOST=127.0.0.1\n")
    deployed.docker.fault("settings", "HOST=127.0.0.1")
    status, output = deployed("prod")
    assert status == 1
    assert ".env.rejected" in output
    assert deployed.env() == good
    assert (deployed.clone / ".env.rejected").read_text(encoding="utf-8").endswith("HOST=127.0.0.1\n")


def test_the_first_deployment_that_fails_leaves_nothing_running(deploy: Deployment) -> None:
    deploy.docker.fault("up")
    status, output = deploy("prod")
    assert status == 1
    assert "nothing ran before: removing what was started" in output
    assert deploy.docker.running() == []


def test_interrupted_after_the_switch_goes_back(deployed: Deployment) -> None:
    deployed.docker.source("two")
    deployed.docker.fault("slow-up")
    environment = deployed.docker.environment(**deployed.variables)
    with ChildProcess("deploy.sh", [tool("bash"), "deploy.sh", "prod"], env=environment, cwd=deployed.clone) as child:
        child.wait_until(lambda: deployed.docker.image(LATEST) == "two", "switching")
        child.wait_for_line("==> starting")
        # As a terminal does: to the whole group.
        os.killpg(child.pid, signal.SIGTERM)
        deployed.docker.mend()
        assert child.wait(30) != 0
        assert "going back to what ran before" in child.output
    assert deployed.docker.running() == ["gw-one"]
    assert deployed.docker.image(LATEST) == "one"


def test_two_at_once(deployed: Deployment) -> None:
    tool("flock")
    deployed.docker.source("two")
    deployed.docker.fault("slow-up")
    environment = deployed.docker.environment(**deployed.variables)
    with ChildProcess("deploy.sh", [tool("bash"), "deploy.sh", "prod"], env=environment, cwd=deployed.clone) as child:
        child.wait_for_line("==> starting")
        status, output = deployed("prod")
        assert status == 1
        assert "Another deployment or restore is under way." in output
        deployed.docker.mend()
        assert child.wait(30) == 0
    assert deployed.docker.running() == ["gw-two"]


def test_without_docker(deploy: Deployment, tmp_path: Path) -> None:
    only = tmp_path / "only"
    only.mkdir()
    for name in ("bash", "cat", "dirname", "sed", "tail", "tr"):
        (only / name).symlink_to(tool(name))
    status, output = deploy("prod", PATH=str(only))
    assert status == 1
    assert "Docker is not installed" in output
    assert "Install Docker Engine" in output


def test_without_compose(deploy: Deployment, tmp_path: Path) -> None:
    only = tmp_path / "only"
    only.mkdir()
    for name in ("bash", "cat", "dirname", "sed", "tail", "tr", "env"):
        (only / name).symlink_to(tool(name))
    (only / "docker").symlink_to(deploy.docker.directory / "bin/docker")
    deploy.docker.fault("compose")
    status, output = deploy("prod", PATH=str(only))
    assert status == 1
    assert "neither 'docker compose' nor 'docker-compose' works" in output


def test_a_compose_that_does_not_work_is_named(deploy: Deployment) -> None:
    status, output = deploy("prod", COMPOSE="no-such-compose")
    assert status == 1
    assert "COMPOSE=no-such-compose does not work here." in output
    assert not (deploy.clone / ".env").exists()


def test_nothing_is_pulled_that_is_here(deploy: Deployment) -> None:
    assert deploy("prod")[0] == 0
    assert not any(call.startswith("pull") for call in deploy.docker.calls())


def test_no_pull_says_what_is_missing(deploy: Deployment) -> None:
    (deploy.docker.directory / "images/redis:7.4-alpine").unlink()
    status, output = deploy("prod", "--no-pull")
    assert status == 1
    assert "redis:7.4-alpine is not here, and --no-pull forbids pulling it" in output
    assert deploy("prod")[0] == 0
    assert "pull redis:7.4-alpine" in deploy.docker.calls()


def test_update_pulls_and_goes_on_with_what_is_here_when_it_cannot(deployed: Deployment) -> None:
    deployed.docker.fault("pull")
    status, output = deployed("update")
    assert status == 0, output
    assert "could not pull redis:7.4-alpine: using the one that is here" in output


@pytest.mark.parametrize(("mode", "template"), [("prod", ".env.example"), ("dev", ".env.prod")])
def test_the_settings_of_the_other_mode_are_refused(mode: str, template: str, deploy: Deployment) -> None:
    shutil.copy(deploy.clone / template, deploy.clone / ".env")
    status, output = deploy(mode)
    assert status == 1
    assert "Move it away" in output
    assert deploy.docker.running() == []


def test_a_password_that_programs_read_differently_is_refused(deploy: Deployment) -> None:
    text = (deploy.clone / ".env.prod").read_text(encoding="utf-8")
    deploy.set_env(text.replace("REDIS_PASSWORD=", "REDIS_PASSWORD=pa$$word"))
    status, output = deploy("prod")
    assert status == 1
    assert "only letters and digits" in output
    assert "pa$$word" not in output


def test_stop_and_status(deployed: Deployment) -> None:
    assert deployed("status")[0] == 0
    assert deployed("stop")[0] == 0
    assert deployed.docker.running() == []
    assert deployed.docker.image(LATEST) == "one"
    status, output = deployed("status")
    assert status == 1
    assert "No gateway runs." in output


@pytest.mark.parametrize("arguments", [("deploy",), ("prod", "--fast")])
def test_unknown_words(arguments: tuple[str, ...], deploy: Deployment) -> None:
    status, output = deploy(*arguments)
    assert status == 1
    assert f"unknown {'option' if len(arguments) > 1 else 'command'} {arguments[-1]}" in output


def test_help_names_every_command(deploy: Deployment) -> None:
    status, output = deploy("help")
    assert status == 0
    for command in ("dev", "prod", "status", "logs", "stop", "backup", "restore", "update", "rollback"):
        assert re.search(rf"^  {command}\b", output, re.MULTILINE), command

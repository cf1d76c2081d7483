"""What `deploy.sh` goes back to: image and `.env` of one deployment together, and only of one that succeeded."""

import pytest

from tests.deploy.deployment import CANDIDATE, LATEST, PREVIOUS, Deployment


def images(deployment: Deployment) -> tuple[str | None, str | None]:
    return deployment.docker.image(LATEST), deployment.docker.image(PREVIOUS)


def succeed(deployment: Deployment, *arguments: str) -> None:
    status, output = deployment(*arguments)
    assert status == 0, output


def test_after_a_change_of_the_settings_alone_the_image_stays(deployed: Deployment) -> None:
    deployed.docker.source("two")
    succeed(deployed, "prod")
    before = deployed.env()
    deployed.set_env(before + "LOG_LEVEL=WARNING\n")
    succeed(deployed, "prod")
    succeed(deployed, "rollback")
    assert deployed.docker.running() == ["gw-two"]
    assert deployed.env() == before
    succeed(deployed, "rollback")
    assert deployed.env() == before + "LOG_LEVEL=WARNING\n"


def test_after_a_change_of_the_image_alone_the_settings_stay(deployed: Deployment) -> None:
    changed = deployed.env() + "LOG_LEVEL=WARNING\n"
    deployed.set_env(changed)
    succeed(deployed, "prod")
    deployed.docker.source("two")
    succeed(deployed, "prod")
    succeed(deployed, "rollback")
    assert deployed.docker.running() == ["gw-one"]
    assert deployed.env() == changed


def test_deploying_again_without_a_change_keeps_what_to_go_back_to(deployed: Deployment) -> None:
    deployed.docker.source("two")
    succeed(deployed, "prod")
    succeed(deployed, "prod")
    assert images(deployed) == ("two", "one")


@pytest.mark.parametrize("fault", ["trial", "up"])
def test_a_failed_deployment_keeps_what_to_go_back_to(fault: str, deployed: Deployment) -> None:
    deployed.docker.source("two")
    succeed(deployed, "prod")
    deployed.docker.source("three")
    deployed.docker.fault(fault)
    assert deployed("prod")[0] == 1
    assert images(deployed) == ("two", "one")
    assert deployed.docker.image(CANDIDATE) is None
    deployed.docker.mend()
    succeed(deployed, "rollback")
    assert deployed.docker.running() == ["gw-one"]


def test_a_rollback_that_fails_changes_nothing(deployed: Deployment) -> None:
    deployed.docker.source("two")
    deployed.set_env(deployed.env() + "LOG_LEVEL=WARNING\n")
    succeed(deployed, "prod")
    later = deployed.env()
    deployed.docker.source("one")
    deployed.docker.fault("up")
    assert deployed("rollback")[0] == 1
    assert deployed.docker.running() == ["gw-two"]
    assert images(deployed) == ("two", "one")
    assert deployed.env() == later
    assert not (deployed.clone / ".deploy/env.undo").exists()


def test_failing_after_stop_returns_to_what_was_deployed(deployed: Deployment) -> None:
    good = deployed.env()
    succeed(deployed, "stop")
    deployed.docker.source("two")
    deployed.set_env(good + "LOG_LEVEL=WARNING\n")
    deployed.docker.fault("up")
    assert deployed("prod")[0] == 1
    assert deployed.docker.running() == []
    assert images(deployed) == ("one", None)
    assert deployed.env() == good
    assert (deployed.clone / ".env.rejected").exists()


def test_an_image_that_never_served_is_not_kept(deploy: Deployment) -> None:
    deploy.docker.fault("up")
    assert deploy("prod")[0] == 1
    assert images(deploy) == (None, None)


def test_what_a_cut_off_rollback_left_is_not_put_back(deployed: Deployment) -> None:
    (deployed.clone / ".deploy/env.undo").write_text("OLD=1\n", encoding="utf-8")
    edited = deployed.env() + "LOG_LEVEL=WARNING\n"
    deployed.set_env(edited)
    deployed.docker.fault("build")
    status, output = deployed("prod")
    assert status == 1
    assert ".env.before-rollback" in output
    assert deployed.env() == edited
    assert (deployed.clone / ".env.before-rollback").read_text(encoding="utf-8") == "OLD=1\n"


@pytest.mark.parametrize("command", ["update", "rollback"])
def test_without_settings_nothing_is_started(command: str, deploy: Deployment) -> None:
    status, output = deploy(command)
    assert status == 1
    assert "There is no .env here" in output
    assert deploy.docker.running() == []
    assert not (deploy.clone / ".env").exists()

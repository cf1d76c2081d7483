"""Only `make test-deploy` collects `docker/`: it builds images and starts containers."""

import os
from pathlib import Path

import pytest

from tests.deploy.deployment import Deployment

collect_ignore_glob = [] if os.environ.get("TEST_DEPLOY") else ["docker/*"]


@pytest.fixture
def deploy(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


@pytest.fixture(scope="session")
def deployed_once(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    """What `deployed` is a copy of, because to deploy takes longer than most tests."""
    deploy = Deployment(tmp_path_factory.mktemp("deployed"))
    status, output = deploy("prod")
    assert status == 0, output
    assert deploy.docker.running() == ["gw-one"]
    deploy.docker.calls()
    return deploy


@pytest.fixture
def deployed(deployed_once: Deployment, tmp_path: Path) -> Deployment:
    """Image `one` runs in production."""
    return deployed_once.copied(tmp_path)

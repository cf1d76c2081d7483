"""Only `make test-deploy` collects `docker/`: it builds images and starts containers."""

import os
from pathlib import Path

import pytest

from tests.deploy.deployment import Deployment

collect_ignore_glob = [] if os.environ.get("TEST_DEPLOY") else ["docker/*"]


@pytest.fixture
def deploy(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


@pytest.fixture
def deployed(deploy: Deployment) -> Deployment:
    """Image `one` runs in production."""
    status, output = deploy("prod")
    assert status == 0, output
    assert deploy.docker.running() == ["gw-one"]
    deploy.docker.calls()
    return deploy

"""Which gateway is installed, the compiled or the interpreted one, and that it is the one that is tested."""

import subprocess
import sys
from pathlib import Path

import gateway
from gateway import __version__
from gateway.compiled import COMPILED, HOW
from gateway.policy import token_bucket
from gateway.wire.server import connection
from tests.conftest import StartGateway
from tests.support.processes import ROOT, clean_environment

MARK = Path(sys.prefix) / ".compiled"
"""`make build` leaves it in the virtual environment, `make interpreted` removes it."""


def test_the_tests_import_what_the_mark_promises() -> None:
    assert MARK.exists() == COMPILED, f"{gateway.__file__} is {HOW}: run `make build` or `make interpreted`"
    for module in (token_bucket, connection):
        assert module.__file__ is not None
        assert module.__file__.endswith(".py") != COMPILED
    assert not COMPILED or ROOT not in Path(gateway.__file__).parents or MARK.parent in Path(gateway.__file__).parents


def test_a_gateway_in_the_checkout_is_the_installed_one_with_a_safe_path() -> None:
    """As `make run` starts it."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "gateway", "--version"],
        cwd=ROOT, env=clean_environment(), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.stdout == f"gateway {__version__} ({HOW})\n"


def test_the_metrics_of_a_running_gateway_tell(start_gateway: StartGateway) -> None:
    metrics = start_gateway({"UPSTREAM_URL": "http://127.0.0.1:1"}).get("/metrics").body.decode()
    labels = next(line for line in metrics.splitlines() if line.startswith("gateway_build_info{"))
    assert f'version="{__version__}"' in labels
    assert f'compiled="{"true" if COMPILED else "false"}"' in labels

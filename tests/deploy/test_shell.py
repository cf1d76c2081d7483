"""shellcheck finds nothing, and would."""

from pathlib import Path

import pytest

from tests.deploy.tools import SHELL_SCRIPTS, run, tool
from tests.support.processes import ROOT

SOURCED = ("scripts/compose.sh", "scripts/gateways.sh", "scripts/held_port.sh")


@pytest.mark.parametrize("name", SHELL_SCRIPTS)
def test_shellcheck(name: str) -> None:
    answer = run([tool("shellcheck"), "--external-sources", name], ROOT)
    assert answer.returncode == 0, answer.stdout


def test_shellcheck_finds_a_mistake(tmp_path: Path) -> None:
    broken = tmp_path / "broken.sh"
    broken.write_text("#!/bin/bash\nrm -rf $1/*\n", encoding="utf-8")
    assert run([tool("shellcheck"), broken], tmp_path).returncode == 1


@pytest.mark.parametrize("name", [name for name in SHELL_SCRIPTS if name not in SOURCED])
def test_can_be_executed_and_stops_at_the_first_error(name: str) -> None:
    assert (ROOT / name).stat().st_mode & 0o111
    assert "\nset -euo pipefail\n" in (ROOT / name).read_text(encoding="utf-8").replace("-Eeuo", "-euo")

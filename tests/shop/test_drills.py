"""`make drills`: every incident passes on a shop that is well, and a report says what failed where one does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from shop.drills.play import INCIDENTS
from shop.drills.report import (
    AVAILABILITY,
    BREAKER,
    COMPENSATION,
    ERROR_RATE,
    TRANSIENT,
    Drill,
    Orders,
    service_levels,
    summary,
)
from shop.processes import PACKAGE

from tests.support.processes import clean_environment

SLACK = 8
"""The service levels are promised on a machine that has time for the shop; the tests share theirs."""


def drills(*arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = clean_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(PACKAGE.parent), environment["PYTHONPATH"]])
    command = [sys.executable, "-m", "shop.drills", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=420, check=False)


@pytest.mark.long
def test_every_incident_passes_in_its_quick_form(tmp_path: Path) -> None:
    report = tmp_path / "report.txt"
    ended = drills("--quick", "--slack", str(SLACK), "--report", str(report))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert report.read_text(encoding="utf-8") == ended.stdout
    for incident in INCIDENTS:
        assert any(f"{word}  {incident.title}" in ended.stdout for word in ("PASS", "SKIP")) == incident.quick
    for level in (TRANSIENT, BREAKER, COMPENSATION, AVAILABILITY, ERROR_RATE):
        assert f"PASS  {level.name}" in ended.stdout
    assert "all drills passed" in ended.stdout


def test_what_does_not_pass_is_named_and_ends_with_status_1() -> None:
    # A hundredth of the time that each thing may take is too short for any process to start.
    ended = drills("--only", "payment-down", "--slack", "0.01")
    assert ended.returncode == 1
    assert "FAIL  Payment Service is Genuinely Down" in ended.stdout
    assert "failed: Payment Service is Genuinely Down" in ended.stdout


def test_a_drill_that_there_is_not_is_refused() -> None:
    ended = drills("--only", "fire")
    assert ended.returncode == 2
    assert "there is no drill fire" in ended.stderr
    assert "payment-errors" in drills("--list").stdout


def test_a_check_that_fails_fails_its_drill() -> None:
    drill = Drill("a drill")
    drill.check("good", True)
    drill.within("quick", 4.9, TRANSIENT)
    assert drill.verdict == "PASS"
    drill.within("slow", 5.0, TRANSIENT)
    drill.within("never", None, BREAKER)
    assert [check.good for check in drill.checks] == [True, True, False, False]
    assert drill.lines()[0] == "FAIL  a drill (0.0 s)"
    assert drill.lines()[-1] == "      FAIL  never: not within 30 s"


@pytest.mark.parametrize(
    ("orders", "seconds", "failed"),
    [
        (Orders(1000, 999, 1000, 49), 9.9, []),
        (Orders(1000, 998, 1000, 49), 9.9, ["availability"]),
        (Orders(1000, 999, 1000, 50), 9.9, ["error rate"]),
        (Orders(1000, 999, 1000, 49), 10.0, ["compensation of an order"]),
    ],
)
def test_the_worst_figure_counts_for_a_service_level(orders: Orders, seconds: float, failed: list[str]) -> None:
    first, second = Drill("first"), Drill("second")
    first.within("one", seconds, COMPENSATION)
    second.within("two", 0.1, COMPENSATION)
    levels = service_levels([first, second], orders, 1.0)
    assert [level.name for level in levels if not level.good] == failed
    assert summary([], levels)[-1] == (f"failed: {', '.join(failed)}" if failed else "all drills passed")

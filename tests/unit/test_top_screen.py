"""What `gateway top` shows of a snapshot."""

from typing import Any

import pytest
from rich.console import Console

from gateway.operator.arguments import SORTS
from gateway.operator.top import Seen
from gateway.operator.top_screen import LINE, screen, sparkline


def service(status: str = "Healthy", **members: Any) -> dict[str, Any]:
    known: dict[str, Any] = {
        "status": status, "reasons": [], "requests": 1.0, "failed": 0.0, "errorRate": 0.0, "attempts": 1.0,
        "failedAttempts": 0.0, "retries": 0.0, "limited": 0.0, "shed": 0.0, "refused": {}, "inFlight": 1, "queued": 0,
        "limit": 10, "circuit": {"state": "Closed", "forced": False}, "endpoints": {"h:1": {"available": True}},
    }  # fmt: skip
    return {**known, **members}


def snapshot(**services: dict[str, Any]) -> dict[str, Any]:
    gateway = {
        "service": "edge", "version": "1", "status": "Degraded", "reasons": ["Something is wrong."], "requests": 3.0,
        "failed": 0.0, "tooMany": 0.0, "shed": 0.0, "inFlight": 1, "limit": 9, "workers": {"0-1": {"state": "ready"}},
        "workersWanted": 1, "store": {"kind": "redis", "up": False},
    }  # fmt: skip
    return {"time": "2026-11-29T12:00:00.000Z", "gateway": gateway, "services": services}


def shown(seen: Seen, *, sort: str = "worst", height: int = 24, width: int = 140) -> list[str]:
    console = Console(width=width, record=True, quiet=True)
    drawn = screen(seen.live, seen.lines, seen.errors, sort=sort, height=height, width=width, lost=seen.lost)
    return "".join(each.text for each in console.render(drawn) if not each.control).splitlines()


def error(number: int, **members: Any) -> dict[str, Any]:
    known = {
        "time": "2026-11-29T12:00:00.000Z", "requestId": str(number), "attempt": 1, "service": "a", "reason": "x",
        "status": 500, "message": "m",
    }  # fmt: skip
    return {**known, **members}


def rows(lines: list[str]) -> list[str]:
    return [line.split()[1] for line in lines if line.lstrip()[:1] in {"●", "▲", "■"}]


def test_what_hurts_is_first() -> None:
    seen = Seen()
    services = {
        "calm": service(),
        "failing": service("Unhealthy", circuit={"state": "Open", "forced": False}, errorRate=0.5),
        "held": service("Degraded", circuit={"state": "HalfOpen", "forced": True}),
        "shedding": service(shed=2.0),
    }
    seen.take("snapshot", snapshot(**services))
    lines = shown(seen)
    assert rows(lines) == ["failing", "held", "shedding", "calm"]
    assert any("Something is wrong." in line for line in lines)
    assert any("Redis away" in line for line in lines)
    assert any("held half-open" in line for line in lines)


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("width", [60, 80, 140])
def test_it_fits_into_the_terminal(sort: str, width: int) -> None:
    seen = Seen()
    seen.take("snapshot", snapshot(**{f"service-{at}": service(requests=float(at)) for at in range(40)}))
    seen.take("errors", {"errors": [error(at, message="m" * 200) for at in range(40)], "more": False})
    lines = shown(seen, sort=sort, width=width, height=20)
    assert len(lines) <= 20
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [40, 50, 60, 72, 80, 100, 110, 120, 132, 160])
@pytest.mark.parametrize("name", ["a", "default", "payments-of-the-north", "n" * 60])
def test_a_name_may_be_cut_and_no_figure(name: str, width: int) -> None:
    """Of `0.7 ms` without its end nobody knows the unit."""
    seen = Seen()
    slow = service("Unhealthy", circuit={"state": "HalfOpen", "forced": False}, p50=0.0007, p95=0.0123, p99=0.25)
    seen.take("snapshot", snapshot(**{name: slow, "b": service(requests=12_345.0, retries=99.5)}))
    lines = shown(seen, width=width)
    header = next(line for line in lines if line.lstrip().startswith("SERVICE"))
    row = next(line for line in lines if line.lstrip().startswith("■"))
    assert "…" not in header
    assert "…" not in row or row.index("…") < header.index("SERVICE") + max(len(name), len("SERVICE")) + 2
    assert "half-open" in row
    assert row.count(" ms") == header.count("P9") + header.count("P50")
    assert max(map(len, lines)) <= width


def test_errors_that_say_the_same_are_one_line() -> None:
    seen = Seen()
    seen.take("snapshot", snapshot(a=service()))
    told = [error(1), error(2), error(3, reason="y"), error(4)]
    seen.take("errors", {"errors": told, "more": False})
    # A stream that begins anew tells the latest ones again.
    seen.take("errors", {"errors": told[2:], "more": False})
    found = [line.split()[2:] for line in shown(seen) if ":00:00 a " in line]
    assert [(each[0], "times" in each) for each in found] == [("x", False), ("y", False), ("x", True)]


def test_what_was_sent_by_others_drives_no_terminal() -> None:
    seen = Seen()
    seen.take("snapshot", snapshot(a=service()))
    seen.take("errors", {"errors": [error(1, message="\x1b[2Jgone")], "more": False})
    assert not any("\x1b" in line for line in shown(seen))


def test_a_patch_and_a_lost_connection() -> None:
    seen = Seen()
    seen.take("snapshot", snapshot(a=service(requests=1.0)))
    seen.take("patch", {"services": {"a": {"requests": 2.0}, "b": service()}})
    assert seen.lines == {"a": [1.0, 2.0], "b": [1.0]}
    seen.take("lost", "The connection is lost.")
    assert any("The connection is lost." in line for line in shown(seen))
    seen.take("patch", {"services": {"b": None}})
    assert not any("lost" in line for line in shown(seen))
    assert set(seen.lines) == {"a"}


def test_a_line_is_as_wide_as_it_is_long() -> None:
    assert sparkline([]) == " " * LINE
    assert sparkline([0.0, 4.0, 8.0]).strip() == "▄█"
    assert len(sparkline([1.0] * LINE)) == LINE


FAULT = {
    "upstream": "pay", "percent": 20.0, "does": "the answer is a 503", "reason": "drill\x1b[2J 12", "by": "ann",
    "until": "2026-11-29T12:01:05.000Z", "source": "api",
}  # fmt: skip


def test_a_fault_is_the_first_thing_with_its_time_and_its_reason() -> None:
    seen = Seen()
    seen.take("snapshot", {**snapshot(pay=service()), "faults": {"1f": FAULT}})
    line = next(line for line in shown(seen) if "FAULT" in line)
    assert "1 min 5 s left: pay: the answer is a 503, for 20 % of the attempts. Why: drill" in line
    assert "\x1b" not in line
    lines = shown(seen)
    assert lines.index(line) < lines.index(next(each for each in lines if "Something is wrong." in each))


def test_fallbacks_in_use_and_work_that_waits_have_a_line() -> None:
    seen = Seen()
    live = snapshot(pay=service(adaptive={"mode": "enforce"}), old=service(adaptive={"mode": "observe"}))
    live["routes"] = {"pay": {"fallbacks": {"b": 2.0, "stale": 0.5}}, "calm": {"fallbacks": {}}}
    live["outbox"] = {"pending": 3, "dead": 1, "oldestSeconds": 7300.0}
    live["workflows"] = {"open": 4, "stuck": 2, "oldestSeconds": 12.0, "runs": {}}
    seen.take("snapshot", live)
    lines = shown(seen)
    assert any("pay: its fallback is in use (b 2.0/s, last good answers 0.5/s)" in line for line in lines)
    assert any(
        "workflow runs: 4 open, the oldest for 12 s, 2 stuck: gateway sagas list --state stuck" in line
        for line in lines
    )
    assert any(
        "outbox: 3 pending, the oldest for 2 h 1 min, 1 given up: gateway outbox list --state dead" in line
        for line in lines
    )
    assert any("1/~10" in line for line in lines)
    assert any(" 1/10" in line for line in lines)
    assert not any("calm" in line for line in lines)


def test_without_such_work_nothing_is_said_of_it() -> None:
    seen = Seen()
    live = {**snapshot(pay=service()), "outbox": {"pending": 0, "dead": 0, "oldestSeconds": 0.0}}
    live["workflows"] = {"open": 0, "stuck": 0, "oldestSeconds": 0.0, "runs": {}}
    seen.take("snapshot", live)
    assert not any("outbox" in line or "workflow" in line for line in shown(seen))

"""Tool services: upstreams of the file that have times and attempts of their own."""

from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.loading import read
from gateway.config.problems import ConfigError
from gateway.config.sections.upstreams.model import UpstreamConfig


def upstreams(directory: Path, entries: str, **environ: str) -> dict[str, UpstreamConfig]:
    file = directory / "routes.yaml"
    file.write_text(f"upstreams:\n{entries}\n")
    return dict(load({"GATEWAY_CONFIG": str(file), **environ}, None).upstreams)


PLAIN = "  plain: {endpoints: ['h:1']}\n"
SEARCH = "  search: {endpoints: ['h:2'], tool: true}\n"


def times(upstream: UpstreamConfig) -> tuple[float, float, int]:
    return upstream.attempt_timeout, upstream.total_timeout, upstream.retry.max_attempts


def test_tools_have_more_time_than_others(tmp_path: Path) -> None:
    found = upstreams(tmp_path, PLAIN + SEARCH)
    assert (times(found["plain"]), times(found["search"])) == ((10, 30, 3), (30, 30, 3))


def test_the_toggles_of_the_platform_runbook(tmp_path: Path) -> None:
    toggles = {
        "TOOL_TIMEOUT_MS": "60000",
        "TOOL_RETRY_ATTEMPTS": "5",
        "TIMEOUT_THRESHOLD_MS": "5000",
        "MAX_RETRIES": "0",
    }
    found = upstreams(tmp_path, PLAIN + SEARCH, **toggles)
    assert (times(found["plain"]), times(found["search"])) == ((5, 30, 1), (60, 60, 6))


@pytest.mark.parametrize(
    ("timeouts", "expected"),
    [
        ("{attempt: 2}", (2, 60, 4)),
        ("{total: 40}", (40, 40, 4)),
        ("{total: 40s}", (40, 40, 4)),
        ("{total: 90s}", (60, 90, 4)),
        ("{attempt: 100}", (100, 100, 4)),
        ("{connect: 1}", (60, 60, 4)),
    ],
)
def test_what_an_entry_says_itself_comes_first(tmp_path: Path, timeouts: str, expected: tuple[float, ...]) -> None:
    entry = f"  search: {{endpoints: ['h:2'], tool: true, timeouts: {timeouts}}}\n"
    found = upstreams(tmp_path, entry, TOOL_TIMEOUT="60", TOOL_MAX_ATTEMPTS="4")
    assert times(found["search"]) == expected


def test_attempts_of_an_entry_come_first(tmp_path: Path) -> None:
    entry = "  search: {endpoints: ['h:2'], tool: true, retry: {max_attempts: 1}}\n"
    assert times(upstreams(tmp_path, entry, TOOL_MAX_ATTEMPTS="4")["search"]) == (30, 30, 1)


def test_the_time_of_all_attempts_of_the_environment_gives_way_to_that_of_tools(tmp_path: Path) -> None:
    found = upstreams(tmp_path, PLAIN + SEARCH, UPSTREAM_TOTAL_TIMEOUT="15", UPSTREAM_TIMEOUT="5")
    assert (times(found["plain"]), times(found["search"])) == ((5, 15, 3), (30, 30, 3))


@pytest.mark.parametrize("timeouts", ["[1]", "{total: x}", "{total: -1}", "3"])
def test_what_is_wrong_in_an_entry_is_said_of_it(tmp_path: Path, timeouts: str) -> None:
    with pytest.raises(ConfigError) as caught:
        upstreams(tmp_path, f"  search: {{endpoints: ['h:2'], tool: true, timeouts: {timeouts}}}\n")
    (problem,) = caught.value.problems
    assert "upstreams.search.timeouts" in problem.source


def test_a_tool_is_true_or_false(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        upstreams(tmp_path, "  search: {endpoints: ['h:2'], tool: search}\n")
    (problem,) = caught.value.problems
    assert (problem.value, problem.allowed) == ('"search"', "true or false")


def test_without_tools_their_settings_are_said_to_have_no_effect() -> None:
    loaded = read({"TOOL_TIMEOUT_MS": "60000"}, None)
    assert [(each.source, each.text) for each in loaded.notices] == [
        ("environment TOOL_TIMEOUT_MS", "no effect: no upstream of the file has tool: true")
    ]

"""What changes from one configuration to the next, in words."""

from pathlib import Path
from typing import cast

import pytest

from gateway.config import load
from gateway.config.command_line import Given
from gateway.supervisor.changes import Changes
from gateway.supervisor.crew import Crew, StartFailed
from gateway.supervisor.generation import MOST_LINES, Generation, differences
from gateway.worker.reading import read_again, read_anew

Environ = dict[str, str]


def generation(environ: Environ, number: int = 1) -> Generation:
    facts, _ = read_anew(environ, Given())
    assert facts["problems"] == []
    return Generation.of(number, facts)


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def changed(before: Environ, after: Environ) -> list[str]:
    return differences(generation(before).settings, generation(after).settings)


def test_a_setting_that_is_another_one_is_shown_with_both_values() -> None:
    assert changed({}, {"MAX_INFLIGHT": "7"}) == ["shedding.limit.limit: 1000 -> 7"]


def test_the_same_configuration_has_no_differences() -> None:
    assert changed({"PORT": "6000"}, {"PORT": "6000"}) == []


def test_a_secret_that_has_changed_is_named_and_not_shown() -> None:
    (line,) = changed({"ADMIN_TOKEN": "a" * 20}, {"ADMIN_TOKEN": "b" * 20})
    assert line == "admin.token: *** -> ***"


def test_a_secret_that_comes_is_not_shown() -> None:
    assert changed({}, {"ADMIN_TOKEN": "b" * 20}) == ["admin.token: None -> ***"]


def test_statuses_in_a_row_are_shown_as_one_and_nothing_is_gone_that_has_become_something(tmp_path: Path) -> None:
    upstreams = '{"upstreams": {"a": {"endpoints": ["h:1"]}, "b": {"endpoints": ["h:1"]}}, "routes": [%s]}'
    route = '{"name": "r", "prefix": "/r", "upstream": "a"%s}'
    file = tmp_path / "gateway.yaml"
    file.write_text(upstreams % (route % ""))
    before = generation({"GATEWAY_CONFIG": str(file)}).settings
    file.write_text(upstreams % (route % ', "fallback": {"upstream": "b", "on": [429, "5xx"]}'))
    lines = differences(before, generation({"GATEWAY_CONFIG": str(file)}).settings)
    assert "routes.r.fallback.statuses: 429, 500-599 (new)" in lines
    assert not [line for line in lines if "gone" in line]


def test_there_are_no_more_lines_than_somebody_reads() -> None:
    old = {f"a{n}": ["1", "x"] for n in range(MOST_LINES + 5)}
    new = {f"a{n}": ["2", "y"] for n in range(MOST_LINES + 5)}
    lines = differences(old, new)
    assert len(lines) == MOST_LINES + 1
    assert lines[-1] == "and 5 more"


def test_problems_are_the_lines_of_gateway_check() -> None:
    facts, loaded = read_anew({"PORT": "none", "WORKERS": "0"}, Given())
    assert loaded is None
    assert facts == {
        "problems": [
            'environment WORKERS: "0"; allowed: auto, or an integer from 1 to 256',
            'environment PORT: "none"; allowed: an integer from 1 to 65535',
        ]
    }


def test_a_generation_comes_through_plain_data() -> None:
    before = generation({"ADMIN_PORT": "6001", "LOG_FORMAT": "text"}, 3)
    assert Generation.of(3, before.dump()) == before


def test_what_was_read_once_is_read_again_although_the_file_has_changed(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    file.write_text("MAX_INFLIGHT=7\n")
    facts, loaded = read_anew({}, Given())
    file.write_text("MAX_INFLIGHT=8\n")
    again = read_again({}, Given(), facts["texts"])
    assert loaded is not None
    assert again.config == loaded.config
    assert again.config.shedding.limit.limit == 7
    assert load({}).shedding.limit.limit == 8


def test_a_file_that_was_not_there_is_not_there_for_later_workers_either(tmp_path: Path) -> None:
    facts, _ = read_anew({}, Given())
    (tmp_path / ".env").write_text("MAX_INFLIGHT=8\n")
    assert read_again({}, Given(), facts["texts"]).config.shedding.limit.limit == 1000


class FullCrew:
    """A crew on a machine that has no room for another process."""

    generation = None
    stopping = False

    async def spawn(self, _slot: int) -> None:
        raise StartFailed("a worker cannot be started: Resource temporarily unavailable")


async def test_a_machine_without_room_for_another_worker_refuses_the_change() -> None:
    changes = Changes(cast("Crew", FullCrew()))
    change = await changes.make()
    assert list(change.problems) == ["a worker cannot be started: Resource temporarily unavailable"]
    assert not change.done

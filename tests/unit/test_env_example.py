"""`.env.example`, `docs/configuration.md` and the declared settings say the same."""

import re
from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.building.variables import ALIASES, VARIABLES
from gateway.config.documents import tables
from gateway.config.documents.env_example import env_example
from gateway.config.problems import number

REPOSITORY = Path(__file__).parents[2]
LINES = (REPOSITORY / ".env.example").read_text(encoding="utf-8").splitlines()
ASSIGNMENT = re.compile(r"(#?)([A-Z][A-Z0-9_]*)=(.*)")
ASSIGNED = {found[2]: found for line in LINES if (found := ASSIGNMENT.fullmatch(line))}


def comments(name: str) -> list[str]:
    """The comment lines right above the assignment of `name`."""
    index = LINES.index(ASSIGNED[name][0])
    first = index
    while LINES[first - 1].startswith("# "):
        first -= 1
    return LINES[first:index]


def test_names_are_the_same_both_ways() -> None:
    assert [found[2] for line in LINES if (found := ASSIGNMENT.fullmatch(line))] == [*VARIABLES, *ALIASES]


@pytest.mark.parametrize("name", VARIABLES)
def test_defaults_and_ranges(name: str) -> None:
    variable = VARIABLES[name]
    off, _, value = ASSIGNED[name].groups()
    text = comments(name)[0]
    if off:
        assert value == variable.default_text
    assert f"Default {variable.default_text};" in text or (not variable.default_text and "Not set: " in text)
    if variable.bounds is not None:
        lowest, highest = variable.bounds
        assert f" from {number(lowest)} to {number(highest)}" in text


@pytest.mark.parametrize("name", ALIASES)
def test_aliases(name: str) -> None:
    assert ASSIGNED[name][1] == "#"
    lowest, highest = ALIASES[name].bounds
    assert comments(name)[0].endswith(f"an integer from {number(lowest)} to {number(highest)}.")
    assert ALIASES[name].target in comments(name)[0]


def test_only_the_values_for_the_drills_are_set() -> None:
    assert {name: found[3] for name, found in ASSIGNED.items() if not found[1]} == {
        "UPSTREAM_URL": "http://127.0.0.1:5001",
        "RATE_LIMIT_CAPACITY": "20",
        "RATE_LIMIT_REFILL_RATE": "10",
        "CIRCUIT_BREAKER_FAILURE_THRESHOLD": "2",
    }
    config = load({}, REPOSITORY / ".env.example")
    assert config.upstreams["default"].breaker.failure_threshold == 2


def test_the_drills_show_what_they_promise_on_fast_and_on_slow_machines() -> None:
    """100 requests of a shell loop meet the limit where each takes 75 ms. Where each takes 10 ms, the 20 failing ones
    that follow at once still find enough tokens to trip the breaker."""
    config = load({}, REPOSITORY / ".env.example")
    limit = config.rate_limits.policies["default"]
    assert limit.capacity + 100 * 0.075 * limit.refill_rate < 100
    assert 20 * 0.010 * limit.refill_rate >= config.upstreams["default"].breaker.failure_threshold


def test_with_every_default_written_out_nothing_changes(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("\n".join(f"{name}={ASSIGNED[name][3]}" for name in VARIABLES), encoding="utf-8")
    assert load({}, path) == load({}, REPOSITORY / ".env.example")


def test_the_text_is_what_the_declarations_render() -> None:
    made = "python -m gateway.config.documents.env_example > .env.example"
    assert "\n".join(LINES) + "\n" == env_example(), made


def test_the_documentation_has_the_tables_and_aliases() -> None:
    text = (REPOSITORY / "docs" / "configuration.md").read_text(encoding="utf-8")
    for each in tables.MODELS:
        assert tables.table(each) in text
    for name, alias in ALIASES.items():
        assert f"| `{name}` | `{alias.target}` | {alias.meaning} |" in text

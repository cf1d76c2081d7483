"""Hooks in the configuration: what a route says, what cannot be loaded, and that no value of a setting is shown."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.config import ConfigError, load, read
from gateway.config.report.plain import as_json, flat
from gateway.config.report.text import as_text
from gateway.config.sections.hooks.model import HookConfig, HookLimits

MODULE = "hooks_of_this_test"
CODE = """
class Good:
    def __init__(self, name="x", more=None):
        self.name = name
        if more:
            more.clear()

    def on_request(self, head):
        return self.name

class Answers:
    def on_response(self, head): pass

class Inner:
    good = Good()

good = Good("object")

class Nothing: pass

class Waits:
    async def on_request(self, head): pass

class Yields:
    def on_request(self, head): yield

class Bare:
    def on_request(self): pass

class Odd:
    on_request = 7

class Raises:
    def __init__(self, **settings): raise KeyError(settings["key"])

def function(head): pass
"""


@pytest.fixture(autouse=True)
def code(tmp_path: Path) -> Iterator[None]:
    """Each test has the module in a directory of its own."""
    path = list(sys.path)
    (tmp_path / f"{MODULE}.py").write_text(CODE)
    yield
    sys.path[:] = path
    for name in list(sys.modules):
        if name.startswith(("hooks_of_", "another_of_")):
            del sys.modules[name]


def environ(directory: Path, *hooks: object, **more: str) -> dict[str, str]:
    file = directory / "gateway.yaml"
    routes = [{"name": "a", "prefix": "/a", "upstream": "a", "hooks": list(hooks)}]
    file.write_text(yaml.safe_dump({"upstreams": {"a": {"endpoints": ["127.0.0.1:1"]}}, "routes": routes}))
    return {"GATEWAY_CONFIG": str(file), "HOOKS_DIR": str(directory), **more}


def hooks_of(directory: Path, *hooks: object, **more: str) -> tuple[HookConfig, ...]:
    return load(environ(directory, *hooks, **more), None).routes[0].hooks


def problems(directory: Path, *hooks: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ(directory, *hooks), None)
    return [line.partition("hooks[0]")[2] for line in str(caught.value).splitlines()]


def test_without_a_word_about_them_there_are_none(tmp_path: Path) -> None:
    assert hooks_of(tmp_path) == ()
    assert load({}, None).hooks == HookLimits()


def test_code_alone_is_enough(tmp_path: Path) -> None:
    (good, answers, inner) = hooks_of(tmp_path, f"{MODULE}:Good", f"{MODULE}:Answers", f"{MODULE}:Inner.good")
    assert (good.name, good.use, good.on_failure) == (f"{MODULE}:Good", f"{MODULE}:Good", "refuse")
    assert good.code.on_request is not None
    assert good.code.on_response is None
    assert answers.code.on_request is None
    assert answers.code.on_response is not None
    assert inner.code.on_request is not None
    assert len(good.code.digest) == 12


def test_what_an_entry_and_the_environment_say(tmp_path: Path) -> None:
    one = {"use": f"{MODULE}:Good", "name": "one", "on_failure": "refuse", "settings": {"name": "n", "more": [1]}}
    two = {"use": f"{MODULE}:Good", "name": "two"}
    found = hooks_of(tmp_path, one, two, HOOKS_ON_FAILURE="skip")
    assert [(each.name, each.on_failure) for each in found] == [("one", "refuse"), ("two", "skip")]
    assert found[0].code.on_request is not None
    assert found[0].code.on_request(None) == "n"
    # A class that changes what it is given does not change the configuration.
    assert found[0].settings == {"name": "n", "more": [1]}
    made = load(environ(tmp_path, HOOKS_SLOW_SECONDS="5ms", HOOKS_FAILURES="7", HOOKS_PAUSE_SECONDS="1m"), None).hooks
    assert made == HookLimits(slow=0.005, failures=7, window=10.0, pause=60.0)


@pytest.mark.parametrize(
    ("use", "found", "allowed"),
    [
        ("Nothing", "it has no on_request and no on_response", "an object with one of them"),
        ("function", "it has no on_request and no on_response", "an object with one of them"),
        ("Waits", "on_request is not a plain function", "hooks do not wait"),
        ("Yields", "on_request is not a plain function", "hooks do not wait"),
        ("Bare", "on_request does not take one argument", "on_request(self, head)"),
        ("Odd", "on_request cannot be called", "a method"),
        ("none", f"{MODULE} has no none", "an attribute of the module"),
        ("Raises", "KeyError: 'key' (", "a class that can be called with these settings"),
    ],
)
def test_code_that_is_no_hook(use: str, found: str, allowed: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, f"{MODULE}:{use}")
    assert line.startswith(f': hook "{MODULE}:{use}" of route "a": {found}')
    assert allowed in line


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x = (", "SyntaxError: '(' was never closed (another_of_mine.py:1)"),
        (
            "import nothing_of_the_kind",
            "ModuleNotFoundError: No module named 'nothing_of_the_kind' (another_of_mine.py:1)",
        ),
        ("1 / 0", "ZeroDivisionError: division by zero (another_of_mine.py:1)"),
        ("import sys; sys.exit(3)", "SystemExit: 3 (another_of_mine.py:1)"),
    ],
)
def test_a_module_that_cannot_be_imported(text: str, found: str, tmp_path: Path) -> None:
    (tmp_path / "another_of_mine.py").write_text(text)
    (line,) = problems(tmp_path, "another_of_mine:Hook")
    assert line == f': hook "another_of_mine:Hook" of route "a": {found}; allowed: a module that can be imported'
    assert not (tmp_path / "__pycache__").exists()


@pytest.mark.parametrize("use", ["hooks_of_nobody:A", "hooks_of_nobody.inner:A"])
def test_a_module_that_is_not_there(use: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, use)
    assert f"there is no module hooks_of_nobody; allowed: a module in {tmp_path}, or an installed one" in line


def test_a_file_that_another_module_hides(tmp_path: Path) -> None:
    """A hook must not take the place of a module that the gateway needs, and it must not be overlooked either."""
    (tmp_path / "json.py").write_text(CODE)
    (line,) = problems(tmp_path, "json:Good")
    assert f"another module is called json, too; allowed: another name for that in {tmp_path}" in line


@pytest.mark.parametrize("use", ["", "a", "a:", ":a", "a b:c", "a:b:c", "../a:b", "a/b:c", "1a:b"])
def test_what_names_no_code(use: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, use)
    assert "allowed: module:attribute" in line


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"use": f"{MODULE}:good", "settings": {"a": 1}}, "it has settings; allowed: none: they are for a class"),
        ({"use": f"{MODULE}:Good", "settings": {"nome": 1}}, "unexpected keyword argument 'nome'"),
        ({"name": "a"}, ".use: missing"),
        ({"use": f"{MODULE}:Good", "on_failure": "pass"}, "allowed: refuse or skip"),
        ({"use": f"{MODULE}:Good", "setings": {}}, "did you mean settings?"),
        (7, "allowed: module:attribute"),
    ],
)
def test_an_entry_that_makes_no_sense(entry: Any, found: str, tmp_path: Path) -> None:
    (line,) = problems(tmp_path, entry)
    assert found in line


def test_a_name_is_there_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"each name once on a route: give this one another, with name"):
        hooks_of(tmp_path, f"{MODULE}:Good", f"{MODULE}:Good")


def test_no_value_of_a_setting_is_shown(tmp_path: Path) -> None:
    (line,) = problems(tmp_path, {"use": f"{MODULE}:Raises", "settings": {"key": "a-secret-of-mine", "n": ["b"]}})
    assert "a-secret" not in line
    assert "KeyError: '***'" in line
    entry = {"use": f"{MODULE}:Good", "name": "one", "settings": {"name": "a-secret-of-mine"}}
    loaded = read(environ(tmp_path, entry), None)
    shown = as_json(loaded, {}, 1) + as_text(loaded, {}, 1) + repr(loaded)
    assert "a-secret" not in shown
    assert all(secret for path, _, secret in flat(loaded.config) if ".settings." in path)


def test_other_code_is_another_configuration(tmp_path: Path) -> None:
    def told() -> dict[str, str]:
        config = load(environ(tmp_path, f"{MODULE}:Good"), None)
        return {path: value for path, value, _ in flat(config) if path.startswith("routes.a.hooks")}

    before = told()
    assert told() == before
    del sys.modules[MODULE]
    (tmp_path / f"{MODULE}.py").write_text(CODE.replace("object", "thing"))
    assert {path for path, value in told().items() if value != before[path]} == {f"routes.a.hooks.{MODULE}:Good.code"}

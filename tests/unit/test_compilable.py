"""What mypyc accepts but compiles into something else than Python does: none of it stands in a module that is compiled.

All this was found with mypyc of mypy 2.4. The tests of behaviour run on the compiled gateway too, but need not reach
every line in which such a thing matters.
"""

import ast
import importlib
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def compiled(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """What setup.py gives to mypyc."""
    monkeypatch.chdir(ROOT)
    paths = [ROOT / path for path in runpy.run_path("setup.py")["hot_modules"]()]
    assert len(paths) > 30
    return paths


def awaits_in_finally(tree: ast.AST) -> Iterator[int]:
    """Lines of `finally:` parts that await: the exception that was on its way is lost, a cancellation among them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Try) and any(
            isinstance(inner, ast.Await) for statement in node.finalbody for inner in ast.walk(statement)
        ):
            yield node.lineno


def names_of_two_exceptions(tree: ast.AST) -> Iterator[int]:
    """Lines of `except B as e` after `except A as e` in one function: compiled, the variable takes an A only."""
    for function in ast.walk(tree):
        if isinstance(function, FUNCTIONS):
            types: dict[str, str] = {}
            for node in ast.walk(function):
                if isinstance(node, ast.ExceptHandler) and node.name and node.type:
                    kind = ast.unparse(node.type)
                    if types.setdefault(node.name, kind) != kind:
                        yield node.lineno


@pytest.mark.parametrize("find", [awaits_in_finally, names_of_two_exceptions])
def test_no_compiled_module_has(find: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert callable(find)
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in compiled(monkeypatch)
        for line in find(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "find"),
    [
        ("async def f():\n    try:\n        pass\n    finally:\n        await g()", awaits_in_finally),
        (
            "def f():\n    try:\n        pass\n    except A as e:\n        pass\n    except B as e:\n        pass",
            names_of_two_exceptions,
        ),
    ],
)
def test_one_is_found(source: str, find: object) -> None:
    assert callable(find)
    assert len(list(find(ast.parse(source)))) == 1


def test_no_compiled_class_extends_an_interpreted_one_with_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its module cannot be imported: mypyc's classes take no `__slots__`, and look for them in their bases."""
    modules = {".".join(path.relative_to(ROOT).with_suffix("").parts) for path in compiled(monkeypatch)}
    modules = {name.removesuffix(".__init__") for name in modules}
    found = [
        f"{name}.{each.__name__} extends {base.__name__}"
        for name in sorted(modules)
        for each in vars(importlib.import_module(name)).values()
        if isinstance(each, type) and each.__module__ == name
        for base in each.__mro__[1:]
        if base.__module__ not in modules and vars(base).get("__slots__")
    ]
    assert found == []

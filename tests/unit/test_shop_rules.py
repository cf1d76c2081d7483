"""The shop keeps the rules that its README claims: it imports nothing of the gateway, and no service knows another one.

Its files are short, like those of the product.
"""

import ast

import pytest

from tests.unit.test_layers import ROOT, circles, graph, imported
from tests.unit.test_sizes import FILE_LINES, FUNCTION_LINES, functions

EXAMPLES = ROOT / "examples"
FILES = sorted((EXAMPLES / "shop").rglob("*.py"))
SERVICES = ("orders", "payments", "inventory", "notifications")


def dotted(name: str) -> str:
    return name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


SOURCES = {
    dotted(path.relative_to(EXAMPLES).as_posix()): (path.read_text(encoding="utf-8"), path.stem == "__init__")
    for path in FILES
}


@pytest.mark.parametrize("module", SOURCES)
def test_it_imports_what_it_may(module: str) -> None:
    source, package = SOURCES[module]
    owner = module.split(".")[1] if module.count(".") else ""
    foreign = [f"shop.{name}" for name in SERVICES if name != owner]
    # A library for all of them knows none of them.
    banned = ["gateway", *(foreign if owner in {*SERVICES, "common"} else [])]
    names = [name for _, name in imported(module, ast.parse(source), package=package)]
    assert [name for name in names if any(f"{name}.".startswith(f"{each}.") for each in banned)] == []


def test_no_two_files_import_each_other() -> None:
    assert circles(graph(SOURCES)) == []


def test_no_file_and_no_function_is_too_long() -> None:
    assert [module for module, (source, _) in SOURCES.items() if len(source.splitlines()) > FILE_LINES] == []
    long = [
        f"{module} {name}"
        for module, (source, _) in SOURCES.items()
        for name, lines in functions(source)
        if lines > FUNCTION_LINES
    ]
    assert long == []

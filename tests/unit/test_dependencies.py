"""`pyproject.toml` names every distribution that the code imports: nothing comes only by way of another package."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from tests.support.statements import statements

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ("gateway", "upstream_stub")
AROUND = ("benchmarks", "examples", "scripts", "tests")
OURS = {*PROGRAM, *AROUND, "shop"}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# The program does without these extras, and says what to install where it cannot.
OPTIONAL = PROJECT["optional-dependencies"]
RUNTIME = [*PROJECT["dependencies"], *OPTIONAL["journal"], *OPTIONAL["otel"], *OPTIONAL["top"], *OPTIONAL["validation"]]
# Packages of an extra that need not be installed, where they are called otherwise than their distribution.
CALLED = {"PIL": "pillow"}
EXTRAS = [requirement for extra in PROJECT["optional-dependencies"].values() for requirement in extra]


def normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(directory: str) -> Iterator[str]:
    """The top-level packages, ours and the standard library's left out."""
    for path in (ROOT / directory).rglob("*.py"):
        for node in statements(ast.parse(path.read_bytes())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names and top not in OURS:
                    yield top


@pytest.mark.parametrize(
    ("directories", "requirements"), [(PROGRAM, RUNTIME), (AROUND, [*RUNTIME, *EXTRAS])], ids=["program", "around"]
)
def test_every_import_is_declared(directories: tuple[str, ...], requirements: list[str]) -> None:
    declared = {normalised(re.split(r"[^\w.-]", requirement, maxsplit=1)[0]) for requirement in requirements}
    distributions = packages_distributions()
    undeclared = {
        package
        for directory in directories
        for package in imported(directory)
        # An extra need not be installed; then the package is taken to be called like its distribution.
        if declared.isdisjoint(map(normalised, distributions.get(package, [CALLED.get(package, package)])))
    }
    assert undeclared == set()

"""Files and functions stay short enough to be read at once.

No file of the product has more than 400 lines, and no function more than 60. Ruff bounds how complex a function is
(`C901`, `PLR0915`).
"""

import ast
from collections.abc import Iterator
from functools import cache

import pytest

from tests.support.statements import statements
from tests.unit.test_layers import ROOT, source_files

FILE_LINES = 400
FUNCTION_LINES = 60

# Each exception says why. A test fails when an exception is no longer needed.
LONG_FILES: dict[str, str] = {}
LONG_FUNCTIONS: dict[str, str] = {
    "gateway/wire/message/chunked.py feed": "the state machine of RFC 9112 section 7.1 in one loop",
}


def functions(source: str) -> Iterator[tuple[str, int]]:
    """Every function with its number of lines, decorators not counted."""
    for node in statements(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - node.lineno + 1


def long_files() -> set[str]:
    return {
        path.relative_to(ROOT).as_posix() for path in source_files() if len(path.read_text().splitlines()) > FILE_LINES
    }


@cache
def long_functions() -> set[str]:
    return {
        f"{path.relative_to(ROOT).as_posix()} {name}"
        for path in source_files()
        for name, lines in functions(path.read_text())
        if lines > FUNCTION_LINES
    }


def test_no_file_is_too_long() -> None:
    assert sorted(long_files() - set(LONG_FILES)) == []


def test_no_function_is_too_long() -> None:
    assert sorted(long_functions() - set(LONG_FUNCTIONS)) == []


def test_every_exception_is_needed() -> None:
    assert sorted(set(LONG_FILES) - long_files()) == []
    assert sorted(set(LONG_FUNCTIONS) - long_functions()) == []


@pytest.mark.parametrize("kind", ["def", "async def"])
def test_the_lines_of_a_function_are_counted_from_its_name_to_its_end(kind: str) -> None:
    source = f"@cached\n{kind} outer(\n    a,\n):\n    def inner():\n        pass\n    return inner\n\n\nx = 1\n"
    assert dict(functions(source)) == {"outer": 6, "inner": 2}

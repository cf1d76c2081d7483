"""Each row of docs/security.md that names a test names one that is there."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/security.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and not line.startswith(("| ---", "| attack"))]


def names_in(path: str) -> set[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (each for each in ast.walk(tree) if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef))
    return {each.name for each in functions if each.name.startswith("test_")}


def test_each_test_that_the_page_names_is_there() -> None:
    named = NAMED.findall(PAGE)
    known = {path: names_in(path) for path in {path for path, _ in named} if (ROOT / path).exists()}
    assert [f"{path}::{test}" for path, test in named if test not in known.get(path, ())] == []


def test_each_row_says_what_happens_and_which_test_holds_it() -> None:
    assert len(ROWS) > 30
    for row in ROWS:
        attack, happens, held = (cell.strip() for cell in row.strip("|").split("|"))
        assert attack, row
        assert happens, row
        # A row without a test is about what no gateway can hold.
        assert NAMED.findall(held) or not held, row
    assert sum(not NAMED.search(row) for row in ROWS) <= 4

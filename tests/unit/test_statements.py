"""`tests.support.statements` finds what `ast.walk` finds, of statements."""

import ast
from pathlib import Path

import pytest

from tests.support import statements as helper
from tests.support.statements import statements

OF_EVERY_KIND = """
async def f():
    async with a as b:
        import one
    async for c in d:
        import two
    else:
        import three
    try:
        import four
    except* E:
        import five
    else:
        import six
    finally:
        import seven
    while True:
        import eight
    if g:
        import nine
    elif h:
        import ten
    match i:
        case 1:
            import eleven
    class J:
        import twelve
        k = lambda: [l if m else n for o in p]
"""


@pytest.mark.parametrize("source", [OF_EVERY_KIND, Path(helper.__file__).read_text(encoding="utf-8")])
def test_they_are_those_of_walk_in_its_order(source: str) -> None:
    tree = ast.parse(source)
    kinds = (ast.stmt, ast.excepthandler, ast.match_case)
    assert list(statements(tree)) == [node for node in ast.walk(tree) if isinstance(node, kinds)]

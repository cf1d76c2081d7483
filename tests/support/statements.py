"""The statements of a source, for tests that look at what it imports and defines.

`ast.walk` visits each expression as well, which is ten times as much, and such a test looks at every file there is.
"""

import ast
from collections import deque
from collections.abc import Iterator
from typing import Final

_BLOCKS: Final = ("body", "handlers", "orelse", "finalbody", "cases")


def statements(tree: ast.AST) -> Iterator[ast.AST]:
    """Every statement of a module, those within others too, in the order of `ast.walk`. So is what stands between them:
    the handlers of a `try`, the cases of a `match`."""
    todo = deque([tree])
    while todo:
        node = todo.popleft()
        for block in _BLOCKS:
            for each in getattr(node, block, ()):
                todo.append(each)
                yield each

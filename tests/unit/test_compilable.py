"""What mypyc accepts but compiles into something else than Python does: none of it stands in a module that is compiled.

All this was found with mypyc of mypy 2.4. The tests of behaviour run on the compiled gateway too, but need not reach
every line in which such a thing matters.
"""

import ast
import importlib
import runpy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOKING = {"len", "min", "find", "rfind"}


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


def addresses_of_locals(tree: ast.AST) -> Iterator[int]:
    """Lines that take the address of a local variable: compiled, it is freed after its last use, which this may be."""
    for function in ast.walk(tree):
        if isinstance(function, FUNCTIONS):
            stored = {
                node.id for node in ast.walk(function) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            for node in ast.walk(function):
                if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("addressof"):
                    yield from [node.lineno for each in node.args if isinstance(each, ast.Name) and each.id in stored]


def constants_not_final(tree: ast.AST) -> Iterator[int]:
    """Lines of a module's constants that its functions read and that are not `Final`: compiled, each reading of one is
    a search in the module's dictionary, and a tuple of a fixed length is made anew."""
    assert isinstance(tree, ast.Module)
    read = {
        node.id
        for function in ast.walk(tree)
        if isinstance(function, FUNCTIONS)
        for statement in function.body
        for node in ast.walk(statement)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    for node in tree.body:
        named: list[ast.expr] = []
        if isinstance(node, ast.AnnAssign) and "Final" not in ast.unparse(node.annotation):
            named = [node.target]
        elif isinstance(node, ast.Assign) and "TypeVar" not in ast.unparse(node.value):
            named = node.targets
        for target in named:
            if isinstance(target, ast.Name) and target.id in read and target.id.isupper():
                yield node.lineno


def stars_to_a_super_init(tree: ast.AST) -> Iterator[int]:
    """Lines of `super().__init__(*several)`: compiled, the first parameter gets all of them as one tuple."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "super().__init__":
            yield from [node.lineno for each in node.args if isinstance(each, ast.Starred)]


def tuples_that_begin_with_a_float(tree: ast.AST) -> Iterator[int]:
    """Lines of a module's `Final` tuples of a fixed length whose first member is a float: compiled, a function that
    reads one finds that it was not set. With the type `Final[tuple[float, ...]]` it is an object like others."""
    assert isinstance(tree, ast.Module)
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.annotation) == "Final":
            first = node.value.elts[0] if isinstance(node.value, ast.Tuple) and node.value.elts else None
            if isinstance(first, ast.Constant) and isinstance(first.value, float):
                yield node.lineno


def calls_within_slices(tree: ast.AST) -> Iterator[int]:
    """Lines of slices whose bounds call something that may do more than look: compiled, it is called twice where the
    sequence is not of a type that the compiler knows (a memoryview, for one)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Slice):
            for call in ast.walk(node.slice):
                if isinstance(call, ast.Call) and ast.unparse(call.func).rpartition(".")[2] not in LOOKING:
                    yield node.lineno


FINDERS: list[Callable[[ast.AST], Iterator[int]]] = [
    awaits_in_finally,
    names_of_two_exceptions,
    addresses_of_locals,
    constants_not_final,
    stars_to_a_super_init,
    tuples_that_begin_with_a_float,
    calls_within_slices,
]


def test_no_compiled_module_has_any_of_these(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for path in compiled(monkeypatch):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [f"{find.__name__}: {path.relative_to(ROOT)}:{line}" for find in FINDERS for line in find(tree)]
    assert found == []


@pytest.mark.parametrize(
    ("source", "find"),
    [
        ("async def f():\n    try:\n        pass\n    finally:\n        await g()", awaits_in_finally),
        (
            "def f():\n    try:\n        pass\n    except A as e:\n        pass\n    except B as e:\n        pass",
            names_of_two_exceptions,
        ),
        ("def f():\n    a = g()\n    return addressof(a)", addresses_of_locals),
        ("_A = 1\ndef f():\n    return _A", constants_not_final),
        ("class A(B):\n    def __init__(self):\n        super().__init__(*(1, 2))", stars_to_a_super_init),
        ("_A: Final = (0.1, 1)", tuples_that_begin_with_a_float),
        ("def f(a):\n    return a[g(a) :][: len(a)]", calls_within_slices),
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


def test_no_interpreted_class_extends_a_compiled_one_that_does_not_allow_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is compiled, the module of the interpreted one cannot be imported, or its class not be made."""
    hot = {_module(path): path for path in compiled(monkeypatch)}
    others = [path for path in (ROOT / "gateway").rglob("*.py") if path not in hot.values()]
    found = [
        f"{name}.{each.__name__} extends {base.__name__}"
        for name in sorted(map(_module, others))
        if not name.endswith("__main__")
        for each in vars(importlib.import_module(name)).values()
        if isinstance(each, type) and each.__module__ == name
        for base in each.__bases__
        if base.__module__ in hot and not _may_be_extended(hot[base.__module__], base.__name__)
    ]
    assert found == []


def _module(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _may_be_extended(path: Path, name: str) -> bool:
    """Whether it is decorated so, or is a protocol, an exception, an enum or a named tuple: those stay as they are."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef) and node.name == name:
            marks = [ast.unparse(mark) for mark in node.decorator_list]
            plain = {"Protocol", "Exception", "IntEnum", "Enum", "NamedTuple"}
            return any("allow_interpreted_subclasses=True" in mark for mark in marks) or any(
                ast.unparse(base).partition("[")[0] in plain for base in node.bases
            )
    return False

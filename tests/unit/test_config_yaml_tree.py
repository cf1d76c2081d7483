"""YAML with the types of version 1.2, and a line for everything."""

import pytest

from gateway.config.reading.yaml_tree import dotted, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("yes", "yes"),
        ("off", "off"),
        ("~", None),
        ("", None),
        ("5", 5),
        ("-5", -5),
        ("010", 10),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("22:30", "22:30"),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("'5'", "5"),
        ('"true"', "true"),
        ("2024-01-01", "2024-01-01"),
        ("NO", "NO"),
        ("9" * 30, float("9" * 30)),
    ],
)
def test_scalars(text: str, value: object) -> None:
    tree = parse(f"a: {text}\n", "f")
    assert tree.problems == []
    assert tree.root == {"a": value}
    assert type(tree.root["a"]) is type(value)


def test_lines() -> None:
    tree = parse("a:\n  - b: 1\n\n    c: 2\n  - {d: 3}\n", "g.yaml")
    assert tree.root == {"a": [{"b": 1, "c": 2}, {"d": 3}]}
    assert tree.source(("a", 0, "c")) == "g.yaml:4 a[0].c"
    assert tree.source(("a", 1, "d")) == "g.yaml:5 a[1].d"
    assert tree.source(("a", 1, "missing")) == "g.yaml:5 a[1].missing"
    assert tree.source(()) == "g.yaml:1"
    assert dotted(("routes", 2, "upstream")) == "routes[2].upstream"


def test_anchors() -> None:
    assert parse("a: &x {b: 1}\nc: *x\n", "f").root == {"a": {"b": 1}, "c": {"b": 1}}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: 1\na: 2\n", "f:2 a: a second time; allowed: each key once (first on line 1)"),
        ("a:\n  b: 1\n  b: 2\n", "f:3 a.b: a second time; allowed: each key once (first on line 2)"),
        ("5: x\n", 'f:1: the key "5"; allowed: keys that are text; put it in quotes'),
        ("? [a]\n: x\n", "f:1: the key a list; allowed: keys that are text; put it in quotes"),
        ("a: &x [*x]\n", "f:1 a[0]: an alias of what it is in; allowed: no cycles"),
        (
            "a: !!python/object/apply:os.system [id]\n",
            'f:1 a: the tag "tag:yaml.org,2002:python/object/apply:os.system"; allowed: plain YAML without tags',
        ),
        ("a: !x 1\n", 'f:1 a: the tag "!x"; allowed: plain YAML without tags'),
    ],
)
def test_problems(text: str, line: str) -> None:
    assert [str(problem) for problem in parse(text, "f").problems] == [line]


@pytest.mark.parametrize(
    "text", ["a: [1\n", "a: 1\n---\nb: 2\n", "\ta: 1\n", "a: *nix\n", "a: 'x\n", "\x00", "[" * 5000]
)
def test_not_yaml(text: str) -> None:
    tree = parse(text, "f")
    assert len(tree.problems) == 1
    assert str(tree.problems[0]).startswith("f")
    assert tree.problems[0].allowed == "valid YAML, one document"


def test_aliases_of_aliases_make_no_endless_file() -> None:
    lines = ["a: &a [x, x, x, x, x, x, x, x, x]"]
    lines += [f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]" for old, new in zip("abcdefgh", "bcdefghi", strict=True)]
    (problem,) = parse("\n".join(lines), "f").problems
    assert str(problem).startswith("f: aliases that repeat more than 100000 values")

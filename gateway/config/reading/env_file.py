"""The lines of `.env`: what each says, or what is wrong with it.

The syntax is that of python-dotenv (`NAME=value`, quotes, `export`, comments), with three rules of ours on top: a name
stands there once, a quote closes on its own line, and `${NAME}` is expanded (`gateway.config.reading.references`). A
message has the name and the line of what is wrong. It never has the value, because a line that cannot be read may hold
a secret.
"""

import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from gateway.config.problems import Notice, Problem, shown
from gateway.config.reading.references import ReferenceProblem, expanded, named
from gateway.config.reading.text_files import Texts

_LINE_ALLOWED = "NAME=value, comments and empty lines"
_NAME = re.compile(r"(?:export\s+)?([A-Za-z_][A-Za-z0-9_.-]*)\s*")


@dataclass(frozen=True, slots=True)
class Line:
    """`value` with its references expanded; `written` as it stands in the file."""

    name: str
    value: str
    written: str
    source: str


@dataclass(slots=True)
class EnvFile:
    """What was read from a `.env` file. `absent` says that there is no such file, which is no problem. `referred` are
    the names that values refer to, also where that could not be replaced."""

    lines: list[Line]
    problems: list[Problem]
    notices: list[Notice]
    absent: bool = False
    referred: set[str] = field(default_factory=set)


def read(path: Path, environ: Mapping[str, str], ours: Callable[[str], bool], texts: Texts) -> EnvFile:
    """Every line of the file that sets something. If the file is not there, the result has no lines. Names that are not
    `ours` may stand there twice: they belong to Docker Compose, or are a problem already."""
    result = EnvFile([], [], [])
    try:
        text = texts.read(path)
    except FileNotFoundError:
        if path.is_symlink():
            problem = Problem(str(path), f"a link to {shown(str(path.readlink()))}, which is not there", "a file")
            result.problems.append(problem)
        result.absent = not result.problems
        return result
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        result.problems.append(Problem(str(path), shown(reason), "a readable text file"))
        return result
    seen: dict[str, Line] = {}

    def lookup(name: str) -> str | None:
        return environ.get(name) or (seen[name].value if name in seen else None)

    for place, binding in _bindings(path, text):
        name, value = binding.key, binding.value
        if binding.error or (name is not None and (value is None or "\n" in value)):
            result.problems.append(Problem(place, _fault(binding), _LINE_ALLOWED))
            continue
        if name is None or value is None:
            continue
        source = f"{place} {name}"
        written = value.strip()
        result.referred |= named(written)
        try:
            # python-dotenv has removed the quotes. Only the line itself still shows which ones there were.
            literal = re.search(r"=\s*'", binding.original.string) is not None
            line = Line(name, written if literal else expanded(written, lookup), written, source)
        except ReferenceProblem as problem:
            result.problems.append(Problem(source, problem.what, problem.allowed))
            continue
        if name in seen and ours(name):
            _twice(result, seen[name], line)
        seen[name] = line
        result.lines.append(line)
    return result


def _bindings(path: Path, text: str) -> Iterator[tuple[str, Binding]]:
    for binding in parse_stream(io.StringIO(text)):
        whole = binding.original.string
        # python-dotenv counts the blank lines before a binding as a part of it.
        line = binding.original.line + whole[: len(whole) - len(whole.lstrip())].count("\n")
        yield f"{path}:{line}", binding


def _twice(result: EnvFile, first: Line, second: Line) -> None:
    line = first.source.rpartition(" ")[0].rpartition(":")[2]
    if first.value == second.value:
        result.notices.append(Notice(second.source, f"the same as on line {line}; one of the two is enough"))
    else:
        result.problems.append(
            Problem(second.source, "a second time, with another value", f"each name once (first on line {line})")
        )


def _fault(binding: Binding) -> str:
    """Why the line says nothing, in words that show no value."""
    text = binding.original.string.strip()
    found = _NAME.match(text)
    if found is None:
        return "no name before the =" if text.startswith("=") else "neither a setting nor a comment"
    name, rest = found[1], text[found.end() :]
    if not rest:
        return f"{name} without = and a value"
    if rest.startswith(":"):
        return f"a colon after {name}, where = belongs"
    if not rest.startswith("="):
        return f"text after {name}, where = belongs"
    value = rest[1:].lstrip()
    quote = value[:1]
    if quote in {'"', "'"}:
        closed = quote in value.partition("\n")[0][1:]
        return f"text behind the closing quote of {name}" if closed else f"the quote {quote} of {name} is not closed"
    return f"a value of {name} that cannot be read"

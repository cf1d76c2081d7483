"""Schema files, JSON or YAML, and what they refer to.

A reference may lead to a file in the directory of the document or below it. Nothing else is read: no network, no
parent directory, no absolute path. A document whose `$id` is somewhere else may refer to the files beside it by URIs
that are relative to that `$id`.

YAML is read by the rules of JSON (OpenAPI 3.1 section 4.2): `no` is a text, `2024-01-01` is one too, names are texts.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import yaml

from gateway.syntax.aliases import AliasesError, Repetitions
from gateway.validation.schemas import SchemaError

Read = Callable[[Path], str]
"""The text of a file. Raises OSError or ValueError (not UTF-8)."""

MOST_DOCUMENTS: Final = 1000


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]  # the C loader is not always there
    """The scalars of YAML's core schema alone."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - the name and kind are yaml's


for tag, pattern, first in (
    ("null", r"~|null|Null|NULL|", [*"~nN", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    ("int", r"[-+]?(0|[1-9][0-9]*)", list("-+0123456789")),
    ("float", r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?", list("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(rf"(?:{pattern})\Z"), first)


class Documents:
    """The document at `path`, and those that it leads to. Each is read once, through `read`."""

    def __init__(self, path: Path, read: Read) -> None:
        self._read = read
        self._directory = path.absolute().parent
        self._known: dict[str, Any] = {}
        self.uri = path.absolute().as_uri()
        self._written = path
        self._remote_base = ""
        self._change: Callable[[Any, str], Any] | None = None
        self._seen = hashlib.sha256()
        self.texts: dict[str, str] = {}
        """What was read, by the name that it was asked for, for another process to read it again."""
        self.root = self._known[self.uri] = self._load(path, path.name)
        named = self.root.get("$id") if isinstance(self.root, dict) else None
        if isinstance(named, str) and urlsplit(named).scheme:
            self._remote_base = named[: named.rfind("/") + 1]

    def retrieve(self, uri: str) -> Any:
        """The document at a URI without fragment. Raises LookupError with the reason."""
        if self._remote_base and uri.startswith(self._remote_base):
            uri = f"{self._directory.as_uri()}/{uri[len(self._remote_base) :]}"
        parts = urlsplit(uri)
        if parts.scheme != "file" or parts.netloc:
            raise LookupError("only files below the directory of the document may be referred to")
        if uri not in self._known:
            path = Path(unquote(parts.path))
            if ".." in path.parts or not path.is_relative_to(self._directory):
                raise LookupError("only files below the directory of the document may be referred to")
            if len(self._known) >= MOST_DOCUMENTS:
                raise LookupError(f"more than {MOST_DOCUMENTS} files are referred to")
            try:
                # As it is written in the configuration, so that whoever reads it again asks for the same name.
                name = self._written.parent / path.relative_to(self._directory)
                document = self._known[uri] = self._load(name, path.name)
            except SchemaError as error:
                raise LookupError(str(error)) from None
            if self._change is not None:
                self._known[uri] = self._change(document, uri)
        return self._known[uri]

    def change(self, change: Callable[[Any, str], Any]) -> None:
        """Have every document, with its URI, be replaced by what `change` makes of it."""
        self._change = change
        for uri, document in list(self._known.items()):
            self._known[uri] = change(document, uri)
        self.root = self._known[self.uri]

    def all(self) -> list[tuple[str, Any]]:
        """All documents that can be reached, with their URIs. What cannot be is left for whoever needs it."""
        done: set[str] = set()
        while waiting := [uri for uri in self._known if uri not in done]:
            for uri in waiting:
                done.add(uri)
                for reference in _references(self._known[uri]):
                    with contextlib.suppress(LookupError):
                        self.retrieve(urldefrag(urljoin(uri, reference))[0])
        return list(self._known.items())

    @property
    def digest(self) -> str:
        """Of everything that was read so far."""
        return self._seen.hexdigest()[:16]

    def _load(self, path: Path, name: str) -> Any:
        try:
            text = self._read(path)
        except (OSError, ValueError):
            raise SchemaError("", f"{name} is not a readable file in UTF-8") from None
        self._seen.update(text.encode())
        self.texts[str(path)] = text
        try:
            return parsed(text, yaml_allowed=path.suffix.lower() != ".json")
        except SchemaError as error:
            raise SchemaError("", f"{name}: {error}") from None


def _references(document: Any) -> Iterator[str]:
    to_visit = [document]
    while to_visit:
        each = to_visit.pop()
        if isinstance(each, dict):
            target = each.get("$ref")
            if isinstance(target, str):
                yield target
            to_visit += each.values()
        elif isinstance(each, list):
            to_visit += each


def parsed(text: str, *, yaml_allowed: bool) -> Any:
    """The value of a text. Raises `SchemaError` with the line."""
    if not yaml_allowed or text.lstrip().startswith("{"):
        try:
            return json.loads(text)
        except ValueError as error:
            if not yaml_allowed:
                raise SchemaError("", f"not JSON: {error}") from None
        except RecursionError:
            raise SchemaError("", "nested too deep") from None
    try:
        return _with_texts_as_names(yaml.load(text, _Loader), Repetitions())  # noqa: S506 - a safe loader, with fewer scalars
    except AliasesError as error:
        raise SchemaError("", f"not YAML that can be used: {error}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise SchemaError("", f"not YAML: {where}{getattr(error, 'problem', None) or 'it cannot be read'}") from None
    except (RecursionError, ValueError):
        raise SchemaError("", "nested too deep, or it has values that JSON has not") from None


def _with_texts_as_names(value: Any, repetitions: Repetitions) -> Any:
    if isinstance(value, dict):
        repetitions.met(value, len(value))
        return {_name(name): _with_texts_as_names(inner, repetitions) for name, inner in value.items()}
    if isinstance(value, list):
        repetitions.met(value, len(value))
        return [_with_texts_as_names(inner, repetitions) for inner in value]
    return value


def _name(name: Any) -> str:
    """As JSON writes it: `200:` of responses is the text 200."""
    return name if isinstance(name, str) else json.dumps(name)

"""A place in an OpenAPI document: its value, and the URI with which a schema can refer to it."""

from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import quote, unquote, urldefrag, urljoin

from gateway.validation.documents import Documents
from gateway.validation.schemas import SchemaError

_MOST_HOPS: Final = 50
# What a pointer in a URI fragment may have as it is (RFC 3986 section 3.5), without what `unquote` would change.
_SAFE: Final = "!$&'()*+,;=:@?-._~/"


class Node:
    """`uri` is that of the document, `steps` lead to the place in it."""

    __slots__ = ("documents", "steps", "uri", "value")

    def __init__(self, documents: Documents, uri: str, steps: tuple[str, ...], value: Any) -> None:
        self.documents = documents
        self.uri = uri
        self.steps = steps
        self.value = value

    @property
    def pointer(self) -> str:
        """As people read it, and as a fragment of a URI."""
        return "#" + "".join("/" + quote(each.replace("~", "~0").replace("/", "~1"), safe=_SAFE) for each in self.steps)

    @property
    def where(self) -> str:
        """The URI of this place."""
        return self.uri + self.pointer

    def get(self, name: str) -> "Node":
        """The member of this name, behind its references; its value is None where there is none."""
        value = self.value.get(name) if isinstance(self.value, dict) else None
        return Node(self.documents, self.uri, (*self.steps, name), value).resolved()

    def plain(self, name: str) -> "Node":
        """As `get`, and no reference is followed: schemas keep theirs."""
        value = self.value.get(name) if isinstance(self.value, dict) else None
        return Node(self.documents, self.uri, (*self.steps, name), value)

    def members(self) -> Iterator[tuple[str, "Node"]]:
        """Every member with its name, behind its references. Extensions (`x-…`) are left out."""
        for name in self.value if isinstance(self.value, dict) else ():
            if not name.startswith("x-"):
                yield name, self.get(name)

    def items(self) -> Iterator["Node"]:
        """Every item of a list, behind its references."""
        for at, value in enumerate(self.value if isinstance(self.value, list) else ()):
            yield Node(self.documents, self.uri, (*self.steps, str(at)), value).resolved()

    def resolved(self) -> "Node":
        """The place that this one refers to, itself without a reference. Raises `SchemaError`."""
        node = self
        for _ in range(_MOST_HOPS):
            target = node.value.get("$ref") if isinstance(node.value, dict) else None
            if not isinstance(target, str):
                return node
            node = node.at(target)
        raise SchemaError(self.pointer, "the reference leads in a circle")

    def at(self, reference: str) -> "Node":
        """The place that a reference in this document leads to. Raises `SchemaError`."""
        uri, fragment = urldefrag(urljoin(self.uri, reference))
        try:
            value = self.documents.retrieve(uri)
        except LookupError as error:
            raise SchemaError(self.pointer, str(error)) from None
        steps = tuple([unquote(each).replace("~1", "/").replace("~0", "~") for each in fragment.split("/")[1:]])
        for step in steps:
            try:
                value = value[int(step) if isinstance(value, list) else step]
            except (LookupError, ValueError, TypeError):
                raise SchemaError(self.pointer, f"the reference leads nowhere: {reference}") from None
        return Node(self.documents, uri, steps, value)

    def error(self, what: str) -> SchemaError:
        """That something is wrong with this place."""
        return SchemaError(self.pointer, what)

    def text(self, name: str, default: str = "") -> str:
        """A member that is a text."""
        value = self.value.get(name, default) if isinstance(self.value, dict) else default
        if not isinstance(value, str):
            raise self.plain(name).error("must be a text")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """A member that is true or false."""
        value = self.value.get(name, default) if isinstance(self.value, dict) else default
        if not isinstance(value, bool):
            raise self.plain(name).error("must be true or false")
        return value

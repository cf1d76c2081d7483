"""Request bodies by media type (OpenAPI 3.1 section 4.8.13): JSON, and forms that are `x-www-form-urlencoded`.

Bodies of other media types, and forms with objects in them, pass unseen, which `gateway check` tells. A form field is
what a query parameter with the style `form` is: an array by repeating the name.
"""

from collections.abc import Callable
from typing import Any, Final

from gateway.validation.content import is_json
from gateway.validation.faults import Fault, Malformed, pointer
from gateway.validation.openapi.kinds import kinds_of, properties_of, value_of
from gateway.validation.openapi.node import Node
from gateway.validation.openapi.parameters import BRACKETS, decoded, pairs_of
from gateway.validation.rules import Body, BodyCheck, JsonCheck
from gateway.validation.schemas import Schema

FORM: Final = "application/x-www-form-urlencoded"


class FormCheck:
    """A form that a schema takes."""

    __slots__ = ("_items", "_members", "_schema", "costly")

    def __init__(self, schema: Schema, node: Node, *, costly: bool) -> None:
        self._schema = schema
        self.costly = costly
        members = properties_of(node)
        self._members = {name: kinds_of(each) for name, each in members.items()}
        self._items = {
            name: kinds_of(members[name].resolved().plain("items"))
            for name, kinds in self._members.items()
            if "array" in kinds
        }

    def faults(self, raw: bytes) -> list[Fault]:
        """See `BodyCheck`."""
        made = self._made(raw)
        return made if isinstance(made, list) else self._schema.faults(made, raw.count(b"&"))

    def faults_at_once(self, raw: bytes) -> list[Fault] | None:
        """See `BodyCheck`."""
        made = self._made(raw)
        return made if isinstance(made, list) else self._schema.faults_at_once(made, raw.count(b"&"))

    def _made(self, raw: bytes) -> dict[str, Any] | list[Fault]:
        """The form as an object, or what is wrong with it as a form. Raises `Malformed`."""
        try:
            pairs = pairs_of(raw)
        except Malformed as error:
            raise Malformed(f"the form {error}") from None
        made: dict[str, Any] = {}
        for name, texts in pairs.items():
            try:
                values = [decoded(each, plus=True) for each in texts]
            except Malformed as error:
                return [Fault(str(error), pointer([name]))]
            start = name.partition("[")[0]
            if start != name and start in self._members and name not in self._members:
                return [Fault(BRACKETS, pointer([start]))]
            if name in self._items:
                made[name] = [value_of(each, self._items[name]) for each in values]
            elif len(values) > 1:
                return [Fault("is there more than once", pointer([name]))]
            else:
                made[name] = value_of(values[0], self._members.get(name, frozenset()))
        return made


def _is_plain(media: Node) -> bool:
    """Whether every field of a form is one text, or several. Documents and upstreams do not agree about how an object
    is written: as JSON, with brackets, or with its members beside the others."""
    for name, encoding in media.get("encoding").members():
        if encoding.text("style", "form") != "form" or not encoding.flag("explode", default=True):
            return False
        if name in properties_of(media.plain("schema")) and is_json(encoding.text("contentType").lower()):
            return False
    members = [each.resolved() for each in properties_of(media.plain("schema")).values()]
    return not any("object" in kinds_of(each) or "object" in kinds_of(each.plain("items")) for each in members)


def body_of(
    node: Node, compile_at: Callable[[Node], tuple[Schema, bool]], notice: Callable[[str, Node], None]
) -> Body | None:
    """What a `requestBody` says; None where there is none. Raises `SchemaError`."""
    if node.value is None:
        return None
    checks: dict[str, BodyCheck | None] = {}
    content = node.get("content")
    for written, media in content.members():
        name = written.partition(";")[0].strip().lower()
        schema = media.plain("schema")
        if schema.value is None:
            checks[name] = None
        elif is_json(name):
            compiled, costly = compile_at(schema)
            checks[name] = JsonCheck(compiled, costly=costly)
        elif name == FORM and _is_plain(media):
            compiled, costly = compile_at(schema)
            checks[name] = FormCheck(compiled, schema, costly=costly)
        else:
            checks[name] = None
            more = " where they have objects, or a style of their own" if name == FORM else ""
            notice(f"bodies of {name}{more} pass unseen", media)
    if not checks:
        raise content.error("a requestBody needs a media type")
    return Body(checks, ", ".join(checks), required=node.flag("required"))

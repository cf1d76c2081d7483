"""Path, query, header and cookie parameters (OpenAPI 3.1 section 4.8.12), by their styles:

    path     simple                                                  1,2   a,1,b,2   a=1,b=2
    header   simple                                                  likewise
    query    form, spaceDelimited, pipeDelimited, deepObject         p=1&p=2   p=1,2   p=1%202   p=1|2   p[a]=1
    cookie   form                                                    p=1   p=1,2

or `content` with a JSON media type. What is left out, and told by `gateway check`: `label` and `matrix`, cookies that
are arrays or objects in several pairs, other `content`, and fields that the gateway itself reads or writes. Query
parameters that no operation names pass.

What the schema sees must be what the upstream sees. Many take `p[a]=1` for a member, and `p[]=1` for an item, of `p`,
so these are spellings of `p` that only `deepObject` allows. Behind CGI `X_A` is the field `X-A`, so it counts, too.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from gateway.validation.content import is_json
from gateway.validation.faults import Fault, Malformed
from gateway.validation.json_body import parse
from gateway.validation.openapi.cookies import cookie_in
from gateway.validation.openapi.kinds import kinds_of, properties_of, value_of
from gateway.validation.openapi.node import Node
from gateway.validation.schemas import Schema

Values = Mapping[str, list[str]]
"""The texts of a query by their decoded names, still encoded."""

STYLES: Final = {
    "path": ("simple",),
    "query": ("form", "spaceDelimited", "pipeDelimited", "deepObject"),
    "header": ("simple",),
    "cookie": ("form",),
}
# OpenAPI 3.1 section 4.8.12.2.1: these are described elsewhere.
_DESCRIBED_ELSEWHERE: Final = frozenset({"accept", "content-type", "authorization"})
_GATEWAY: Final = re.compile(
    r"host|connection|content-length|transfer-encoding|expect|upgrade|via|te|trailer|keep-alive|proxy.*|forwarded.*"
    r"|x-forwarded.*|x-request-id|x-correlation-id|traceparent|tracestate|idempotency-key|max-forwards|origin|x-tenant"
    r"|x-consumer|x-real-ip"
)
_SEPARATORS: Final = {"spaceDelimited": "%20", "pipeDelimited": "|"}
_SEVERAL: Final = "is there more than once"
BRACKETS: Final = "is written with brackets, which the API does not describe"
"""Of `limit[$gt]=1` where the parameter is `limit`."""
_SPELLING: Final = "is there in another spelling of its name"
_LONG: Final = Fault("has many values, and not all are what the schema takes")
_ENCODING: Final = "is not UTF-8"


class Parameter:
    """One parameter of an operation. `costly`: even a small value may take long to judge
    (`gateway.validation.recursion`)."""

    __slots__ = (
        "_cookie",
        "_field",
        "_fields",
        "_items",
        "_kinds",
        "_members",
        "_nested",
        "_plus",
        "_schema",
        "_spreads",
        "_style",
        "costly",
        "empty",
        "explode",
        "name",
        "place",
        "required",
    )

    def __init__(self, node: Node, place: str, compile_at: Callable[[Node], tuple[Schema, bool]]) -> None:
        """Raises `SchemaError`."""
        self.name = node.text("name")
        self.place = place
        self.required = node.flag("required")
        self.empty = node.flag("allowEmptyValue")
        self._style = node.text("style", STYLES[place][0])
        self.explode = node.flag("explode", default=self._style == "form")
        self._plus = place == "query"
        content = node.get("content")
        self._kinds: frozenset[str] | None = None
        self._items: frozenset[str] = frozenset()
        self._members: dict[str, frozenset[str]] = {}
        if content.value:
            ((_, media),) = content.members()
            schema = media.plain("schema")
        else:
            schema = node.plain("schema")
            self._kinds = kinds_of(schema)
            if "array" in self._kinds:
                self._items = kinds_of(schema.resolved().plain("items"))
            elif "object" in self._kinds:
                self._members = {name: kinds_of(each) for name, each in properties_of(schema).items()}
        self._schema, costly = compile_at(schema)
        # Texts of a style become values of two levels at most.
        self.costly = costly and self._kinds is None
        spelt = "".join([each if each.isalnum() else r"[^a-z0-9:\r\n]" for each in self.name]).encode()
        self._fields = re.compile(rb"^(%b)[ \t]*:([^\r\n]*)" % spelt, re.IGNORECASE | re.MULTILINE)
        self._field = self.name.lower().encode()
        self._cookie = self.name.encode()
        is_object = self._kinds is not None and "object" in self._kinds and "array" not in self._kinds
        self._nested = is_object and self._style == "deepObject"
        self._spreads = is_object and not self._nested and self.explode

    @property
    def names(self) -> frozenset[str]:
        """The names that stand for it in a query, none of which may go on with brackets."""
        if self.place != "query" or self._nested:
            return frozenset()
        return frozenset(self._members if self._spreads else (self.name,))

    def faults(self, values: Mapping[str, str], query: Values, lines: bytes) -> list[Fault]:
        """What is wrong with it."""
        try:
            value = self._value(values, query, lines)
        except Malformed as error:
            return [Fault(str(error), place=self.place, name=self.name)]
        if value is None:
            return [Fault("is missing", place=self.place, name=self.name)] if self.required else []
        for each in value:
            found = self._schema.faults_at_once(each, _size_of(each))
            if found is None:
                found = [_LONG]
            if found:
                return [Fault(fault.detail, place=self.place, name=self.name) for fault in found]
        return []

    def _value(self, values: Mapping[str, str], query: Values, lines: bytes) -> tuple[Any, ...] | None:
        """The value, or all that upstreams may take it for; None where there is none. Raises `Malformed`."""
        if self.place == "query":
            return self._of_query(query)
        if self.place == "cookie":
            texts = cookie_in(lines, self._cookie)
            # JSON has quotes, which no cookie can have unless it is encoded.
            return tuple([self._simple(each) for each in (texts if self._kinds is not None else texts[-1:])]) or None
        text = values.get(self.name) if self.place == "path" else self._of_fields(lines)
        return None if text is None else (self._simple(text),)

    def _of_fields(self, lines: bytes) -> str | None:
        spelt = self._fields.findall(lines)
        found = [value.strip(b" \t") for name, value in spelt if name.lower() == self._field]
        if len(spelt) > len(found):
            raise Malformed(_SPELLING)
        if len(found) > 1 and not (self._kinds is not None and self._kinds & {"array", "object"}):
            raise Malformed(_SEVERAL)
        return b", ".join(found).decode("latin-1") if found else None

    def _of_query(self, query: Values) -> tuple[Any] | None:
        kinds = self._kinds
        if self._nested:
            return self._deep(query)
        if self._spreads:
            return self._spread(query)
        texts = query.get(self.name)
        if texts is None or (self.empty and texts == [""]):
            return None
        if kinds is not None and "array" in kinds and self.explode:
            return ([self._item(each, self._items) for each in texts],)
        if len(texts) > 1:
            raise Malformed(_SEVERAL)
        return (self._simple(texts[0]),)

    def _simple(self, text: str) -> Any:
        """A value in one text: with commas, or with what its style has in their place."""
        kinds = self._kinds
        if kinds is None:
            try:
                return parse(self._decoded(text).encode())
            except Malformed:
                raise Malformed("is not JSON that everybody reads alike") from None
        separator = _SEPARATORS.get(self._style, ",")
        if separator == "|":
            text = text.replace("%7C", "|").replace("%7c", "|")
        elif separator == "%20":
            text = text.replace("+", "%20")
        if "array" in kinds:
            parts = [each.strip(" ") if self.place == "header" else each for each in text.split(separator)]
            return [self._item(each, self._items) for each in parts] if text else []
        if "object" in kinds:
            return self._members_of(text.split(separator))
        return self._item(text, kinds)

    def _members_of(self, parts: list[str]) -> dict[str, Any]:
        """`a=1,b=2`, or without `explode` `a,1,b,2`."""
        if self.explode:
            pairs = [tuple(each.split("=", 1)) for each in parts]
            if any(len(each) != 2 for each in pairs):
                raise Malformed("must be name=value, separated")
        else:
            if len(parts) % 2:
                raise Malformed("must be names and values in turn")
            pairs = list(zip(parts[::2], parts[1::2], strict=True))
        return self._named({self._decoded(pair[0].strip(" ")): [pair[1].strip(" ")] for pair in pairs})

    def _spread(self, query: Values) -> tuple[Any] | None:
        """`form` with `explode`: each member is a parameter of its own."""
        found = {name: query[name] for name in self._members if name in query}
        return (self._named(found),) if found else None

    def _deep(self, query: Values) -> tuple[Any] | None:
        """`p[a]=1&p[b]=2`."""
        start = f"{self.name}["
        found = {}
        for name, texts in query.items():
            if name.startswith(start):
                member = name[len(start) : -1]
                if name[-1] != "]" or "[" in member or "]" in member:
                    raise Malformed("has a member that is not written as name[member]")
                found[member] = texts
        if self.name in query:
            raise Malformed("must be written as name[member]=value")
        return (self._named(found),) if found else None

    def _named(self, texts: Values) -> dict[str, Any]:
        made = {}
        for name, each in texts.items():
            kinds = self._members.get(name, frozenset())
            if "array" in kinds:
                made[name] = [self._item(text, frozenset()) for text in each]
            elif len(each) > 1:
                raise Malformed(_SEVERAL)
            else:
                made[name] = self._item(each[0], kinds)
        return made

    def _item(self, text: str, kinds: frozenset[str]) -> Any:
        return value_of(self._decoded(text), kinds)

    def _decoded(self, text: str) -> str:
        """Header fields are not encoded, and cookies are decoded before."""
        return text if self.place in {"header", "cookie"} else decoded(text, plus=self._plus)


def _size_of(value: Any) -> int:
    """Of how many values it is made, `parse` having bounded its depth."""
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + sum(map(_size_of, value)) if isinstance(value, list) else 1


def decoded(text: str, *, plus: bool) -> str:
    """Percent-decoded; `plus` says that a + is a space. Raises `Malformed`."""
    if plus:
        text = text.replace("+", " ")
    try:
        return unquote_to_bytes(text).decode() if "%" in text or not text.isascii() else text
    except UnicodeDecodeError:
        raise Malformed(_ENCODING) from None


def pairs_of(raw: bytes) -> dict[str, list[str]]:
    """The texts of a query or a form by their decoded names, themselves still encoded. A name that is not UTF-8 is
    nobody's. Raises `Malformed` where the bytes are not ASCII."""
    found: dict[str, list[str]] = {}
    try:
        text = raw.decode("ascii")
    except UnicodeDecodeError:
        raise Malformed("is not percent-encoded") from None
    for each in text.split("&"):
        if each:
            name, _, value = each.partition("=")
            try:
                found.setdefault(decoded(name, plus=True), []).append(value)
            except Malformed:
                continue
    return found


def why_not(node: Node) -> str:
    """Why a parameter is not validated, in words for `gateway check`; empty where it is."""
    place, name = node.text("in"), node.text("name")
    if place not in STYLES:
        return f"parameters in {place or 'nowhere'} are not validated"
    if place == "header" and name.lower() in _DESCRIBED_ELSEWHERE:
        return "headers that OpenAPI describes elsewhere are not validated as parameters"
    if place == "header" and _GATEWAY.fullmatch(name.lower()):
        return "headers that the gateway itself reads or writes are not validated"
    content = node.get("content")
    if content.value:
        names = [media for media, _ in content.members()]
        return (
            ""
            if len(names) == 1 and is_json(names[0])
            else "parameters with content that is not JSON are not validated"
        )
    style = node.text("style", STYLES[place][0])
    if style not in STYLES[place]:
        return f"parameters of style {style} in {place} are not validated"
    several = place == "cookie" and node.flag("explode", default=True)
    if several and kinds_of(node.plain("schema")) & {"array", "object"}:
        # OpenAPI 3.1.1 section 4.8.12.3 advises against it: `&` separates no cookies.
        return "cookies with arrays or objects are not validated without explode: false"
    return ""

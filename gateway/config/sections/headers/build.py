"""From what is said about header fields to what it means, and what is wrong with it.

A value may be a key for a provider, so no message has one.
"""

from collections.abc import Iterable
from typing import Any, Final, Literal

from gateway.config.building.sources import Sources
from gateway.config.problems import MASK, shown
from gateway.config.reading.yaml_tree import Location
from gateway.config.sections.headers.model import FieldChanges
from gateway.config.sections.headers.settings import FieldChanges as Wanted
from gateway.syntax.owned_fields import NAME, VALUE, owned

_NAME_ALLOWED: Final = "the name of a header field, such as X-Api-Version"
_VALUE_ALLOWED: Final = "1 to 8192 visible ASCII characters, with blanks between them"
_OWN: Final = "another field: the gateway itself reads or sets this one"


def field_changes(
    sources: Sources, wanted: Wanted, location: Location, of: Literal["request", "answer"]
) -> FieldChanges | None:
    """The domain type, None where nothing is changed. What is wrong is reported; `location` is that of `wanted`."""
    of_claims = _of_claims(sources.tree.root)
    for part, names in (("set", wanted.set), ("append", wanted.append), ("remove", wanted.remove)):
        for place, name in enumerate(names):
            at = (*location, part, place if part == "remove" else name)
            if NAME.fullmatch(name) is None:
                sources.refuse(at, shown(name), _NAME_ALLOWED)
            elif owned(name, of) or (of == "request" and name.lower() in of_claims):
                sources.refuse(at, shown(name), _OWN)
    for part, values in (("set", wanted.set), ("append", wanted.append)):
        for name, value in values.items():
            if VALUE.fullmatch(value) is None:
                sources.refuse((*location, part, name), MASK, _VALUE_ALLOWED)
    if not (wanted.set or wanted.append or wanted.remove):
        return None
    return FieldChanges(tuple(wanted.remove), tuple(wanted.set.items()), tuple(wanted.append.items()))


def check_headers_of_delivered(sources: Sources, route: int, *, preserve_host: bool) -> None:
    """Report changes of fields on a route that delivers or has a workflow: its requests are kept as they come, and its
    answers are the gateway's own. The client's Host is not kept."""
    if preserve_host:
        allowed = "false on a route with deliver or workflow, whose upstreams get their own names"
        sources.refuse(("routes", route, "preserve_host"), "true", allowed)
    for part in ("request_headers", "response_headers"):
        if sources.tree.holds(("routes", route, part)):
            allowed = "nothing on a route with deliver or workflow; request_headers of its upstream"
            sources.refuse(("routes", route, part), "a mapping", allowed)


def _of_claims(root: Any) -> frozenset[str]:
    """The fields that are made from claims of tokens, in lower case."""
    issuers = root.get("issuers") if isinstance(root, dict) else None
    found: list[str] = []
    for issuer in _mappings(issuers):
        fields = issuer.get("fields")
        found += [str(name).lower() for name in fields] if isinstance(fields, dict) else []
    return frozenset(found)


def _mappings(entries: Any) -> Iterable[dict[str, Any]]:
    return [each for each in entries.values() if isinstance(each, dict)] if isinstance(entries, dict) else []

"""The kinds of rules, by the key of `validate` that names their file. To add a kind, add a line here."""

from collections.abc import Callable
from typing import Final

from gateway.validation.documents import Read
from gateway.validation.openapi.document import OpenApiRules
from gateway.validation.rules import Rules, SchemaRules

_KINDS: Final[dict[str, Callable[[str, Read], Rules]]] = {"schema": SchemaRules, "openapi": OpenApiRules}


def rules_of(kind: str, file: str, read: Read) -> Rules:
    """The rules of a file. Raises `SchemaError`."""
    return _KINDS[kind](file, read)

"""The tables of `docs/configuration.md`, from the declarations of the settings.

    python -m gateway.config.documents.tables upstream|route|rate_limit|consumer|tenant|tier|issuer|workflow|step

Tests compare the page with this, so that names, defaults and ranges cannot drift apart.
"""

import sys
from collections.abc import Callable, Iterator
from typing import get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.config.declaring.inspection import allowed
from gateway.config.declaring.section import Env
from gateway.config.documents.meanings import meaning_of
from gateway.config.sections.identity.settings import FileConsumer, FileTenant, FileTier
from gateway.config.sections.issuers.settings import FileIssuer
from gateway.config.sections.rate_limits.settings import RateLimit
from gateway.config.sections.routes.settings import FileRoute
from gateway.config.sections.upstreams.settings import FileUpstream
from gateway.config.sections.workflows.settings import FileStep, FileWorkflow, SagaUndo


def upstream_table() -> str:
    """The table of the keys of an upstream, in Markdown, for docs/configuration.md."""
    return _file_table(FileUpstream)


def route_table() -> str:
    """The table of the keys of a route, in Markdown, for docs/configuration.md."""
    return _file_table(FileRoute)


def rate_limit_table() -> str:
    """The table of the keys of a rate limit policy, in Markdown, for docs/configuration.md."""
    return _file_table(RateLimit)


def consumer_table() -> str:
    """The table of the keys of a consumer, in Markdown, for docs/configuration.md."""
    return _file_table(FileConsumer)


def tenant_table() -> str:
    """The table of the keys of a tenant, in Markdown, for docs/configuration.md."""
    return _file_table(FileTenant)


def tier_table() -> str:
    """The table of the keys of a tier, in Markdown, for docs/configuration.md."""
    return _file_table(FileTier)


def issuer_table() -> str:
    """The table of the keys of an issuer, in Markdown, for docs/configuration.md."""
    return _file_table(FileIssuer)


def workflow_table() -> str:
    """The table of the keys of a workflow, in Markdown, for docs/configuration.md."""
    return _file_table(FileWorkflow)


def step_table() -> str:
    """The table of the keys of a step, and of what compensates it, in Markdown, for docs/configuration.md."""
    undo = "".join(f"| {' | '.join(row)} |\n" for row in _file_rows(SagaUndo, "compensate."))
    return _file_table(FileStep) + undo


def _file_table(model: type[BaseModel]) -> str:
    return _table(("key", "left out", "allowed", "meaning"), list(_file_rows(model, "")))


def _file_rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    # The fields that only the entry has come first, in its own order. Then come those that it shares with the
    # environment.
    for name in dict.fromkeys([*model.__annotations__, *model.model_fields]):
        field = model.model_fields[name]
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _file_rows(nested, f"{prefix}{name}.")
            continue
        env = next((note for note in field.metadata if isinstance(note, Env)), None)
        if env is not None:
            left_out, meaning = f"`{env.name}`", env.meaning
        else:
            meaning = meaning_of(model, name)
            default = field.get_default(call_default_factory=True)
            empty = default in (None, "", [], {})
            left_out = "required" if default is PydanticUndefined else "" if empty else _code(default)
            if left_out == "" and ";" in meaning:
                meaning, left_out = (part.strip() for part in meaning.rsplit(";", 1))
        text = "a list of endpoints" if get_origin(nested) is list and "FileEndpoint" in str(nested) else None
        yield f"`{prefix}{name}`", left_out, text or allowed(nested, field.metadata), meaning


def _code(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else ""


def _table(header: tuple[str, ...], rows: list[tuple[str, str, str, str]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_OUTPUTS: dict[str, Callable[[], str]] = {
    "upstream": upstream_table,
    "route": route_table,
    "rate_limit": rate_limit_table,
    "consumer": consumer_table,
    "tenant": tenant_table,
    "tier": tier_table,
    "issuer": issuer_table,
    "workflow": workflow_table,
    "step": step_table,
}

if __name__ == "__main__":
    sys.stdout.write(_OUTPUTS[sys.argv[1]]())

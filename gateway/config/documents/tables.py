"""The tables of `docs/configuration.md`, from the declarations of the settings.

    python -m gateway.config.documents.tables upstream|route|rate_limit|consumer|tenant|tier|issuer|workflow|step

Tests compare the page with this, so that names, defaults and ranges cannot drift apart.
"""

import sys
from collections.abc import Iterator
from typing import get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.config.declaring.inspection import allowed
from gateway.config.declaring.section import Env, Meaning
from gateway.config.sections.identity.settings import FileConsumer, FileTenant, FileTier
from gateway.config.sections.issuers.settings import FileIssuer
from gateway.config.sections.rate_limits.settings import RateLimit
from gateway.config.sections.routes.settings import FileRoute
from gateway.config.sections.upstreams.settings import FileUpstream
from gateway.config.sections.workflows.settings import FileStep, FileWorkflow, SagaUndo

# By the word that the command takes.
MODELS: dict[str, type[BaseModel]] = {
    "upstream": FileUpstream,
    "route": FileRoute,
    "rate_limit": RateLimit,
    "consumer": FileConsumer,
    "tenant": FileTenant,
    "tier": FileTier,
    "issuer": FileIssuer,
    "workflow": FileWorkflow,
    "step": FileStep,
}


def table(of: str) -> str:
    """The table of the keys of one of `MODELS`, in Markdown. That of a step has those of what compensates it, too."""
    rows = list(_rows(MODELS[of], ""))
    if of == "step":
        rows += _rows(SagaUndo, "compensate.")
    header = ("key", "left out", "allowed", "meaning")
    return "".join(f"| {' | '.join(line)} |\n" for line in (header, tuple("---" for _ in header), *rows))


def _rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    # The fields that only the entry has come first, in its own order. Then come those that it shares with the
    # environment.
    for name in dict.fromkeys([*model.__annotations__, *model.model_fields]):
        field = model.model_fields[name]
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _rows(nested, f"{prefix}{name}.")
            continue
        env = next((note for note in field.metadata if isinstance(note, Env)), None)
        if env is not None:
            left_out, meaning = f"`{env.name}`", env.meaning
        else:
            note = next((note for note in field.metadata if isinstance(note, Meaning)), Meaning(""))
            meaning = note.meaning
            default = field.get_default(call_default_factory=True)
            empty = default in (None, "", [], {})
            left_out = "required" if default is PydanticUndefined else note.unset if empty else _code(default)
        text = "a list of endpoints" if get_origin(nested) is list and "FileEndpoint" in str(nested) else None
        yield f"`{prefix}{name}`", left_out, text or allowed(nested, field.metadata), meaning


def _code(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else ""


if __name__ == "__main__":
    sys.stdout.write(table(sys.argv[1]))

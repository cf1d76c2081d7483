"""What every answer and every input of the API has in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel
from pydantic.config import JsonDict

PLAIN = r"^[^\x00-\x1f\x7f]*$"
"""Text without control characters: PostgreSQL takes no NUL, and a line of a log stays one line."""
WITHOUT: JsonDict = {"x-without": "control characters"}


class Answer(BaseModel):
    """What is answered: exactly these members, in camelCase."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        defer_build=True,
    )


class Input(BaseModel):
    """What is asked: unknown members are refused, so that a misspelt one is noticed."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
        hide_input_in_errors=True,
        defer_build=True,
    )


class Nothing(Input):
    """Neither query nor body."""


def only_of(what: str) -> Any:
    """The name of a route or a workflow that chooses among records."""
    return Field(max_length=64, pattern=PLAIN, description=f"Only those of one {what}", json_schema_extra=WITHOUT)

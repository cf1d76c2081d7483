"""The answers of the API about issuers of tokens."""

from typing import Annotated

from pydantic import Field

from gateway.control.models.shapes import Answer
from gateway.control.models.words import Count


class Issuer(Answer):
    """Whose tokens count, as this worker has its keys."""

    name: str
    issuer: Annotated[str, Field(description="What its tokens have as iss")]
    algorithms: list[str]
    keys: Annotated[list[str], Field(description="The kid of each with its type")]
    usable: Annotated[bool, Field(description="Whether tokens can be checked now")]
    age_seconds: Annotated[float | None, Field(ge=0, description="Since the last good answer; null: none yet")]
    next_fetch_seconds: Annotated[float | None, Field(ge=0, description="null: a file, which is watched")]
    problem: Annotated[str | None, Field(description="Why the last fetch brought nothing; null: it did")]


class Issuers(Answer):
    """Every issuer of the configuration."""

    count: Count
    issuers: list[Issuer]

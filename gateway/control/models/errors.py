"""The answers of the API about the latest errors."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import Answer
from gateway.control.models.words import Count, Instant, Scope


class ErrorEntry(Answer):
    """One failed attempt or refusal."""

    time: Instant
    request_id: str
    correlation_id: str
    service: str
    category: Literal[
        "Timeout", "Network", "Authentication", "Validation", "RateLimit",
        "InvalidState", "Cancellation", "Configuration", "Dependency", "Unknown",
    ]  # fmt: skip
    reason: Annotated[str, Field(description="A stable word, as in the gateway's problem documents and logs")]
    status: Annotated[int | None, Field(description="The upstream's or the refusal's; null: there was no answer")]
    attempt: Annotated[Count, Field(description="From 1; 0: refused before any attempt")]
    message: str
    client: Annotated[str | None, Field(description="null unless the question names one: for operators alone")] = None


class RecentErrors(Answer):
    """Newest first."""

    count: Count
    scope: Scope
    errors: list[ErrorEntry]

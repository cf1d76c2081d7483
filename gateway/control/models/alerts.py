"""The answers of the API about alerts."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import Answer
from gateway.control.models.words import Count, Instant


class AlertEntry(Answer):
    """One alert."""

    id: str
    name: str
    severity: Literal["warning", "critical"]
    service: str
    state: Literal["active", "resolved"]
    message: str
    first_time: Instant
    last_time: Instant
    resolved_time: Instant | None
    count: Annotated[Count, Field(description="Checks that found it so")]


class Alerts(Answer):
    """Worst first, then newest first; resolved ones last."""

    count: Count
    alerts: list[AlertEntry]


class Cleanup(Answer):
    """What a clean-up of alerts has done."""

    removed: Annotated[Count, Field(description="Resolved alerts that were forgotten; active ones stay")]

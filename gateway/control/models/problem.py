"""What the API answers where it refuses."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field


class Problem(BaseModel):
    """RFC 9457. Some problems add members: `known`, `parameter`, `member`, `allowed`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str
    reason: Annotated[str, Field(description="A stable word for programs")]
    retry_after: Annotated[int, Field(ge=1, description="Seconds, where there is one")] = 1
    request_id: str

"""The words and quantities that answers and inputs of the API are made of.

Names and words are the runbooks': `errorRate`, `errorsPerMinute`, `circuitState` (Closed, Open, HalfOpen),
`lastErrorTime`; Healthy, Degraded, Unhealthy. Instants are RFC 3339 in UTC, durations seconds.
"""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import PLAIN, WITHOUT

Instant = Annotated[str, Field(json_schema_extra={"format": "date-time"}, description="RFC 3339, UTC")]
HealthWord = Literal["Healthy", "Degraded", "Unhealthy"]
CircuitWord = Literal["Closed", "Open", "HalfOpen"]
Scope = Annotated[
    Literal["fleet", "process"],
    Field(description="Whose they are: of all replicas, or of this process alone because the store is away"),
]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(ge=0, description="Seconds")]
CIRCUIT_WORDS: dict[str, CircuitWord] = {"closed": "Closed", "open": "Open", "half_open": "HalfOpen"}
REASON = Field(
    min_length=1,
    max_length=200,
    pattern=PLAIN,
    description="Why, for the audit log and for whoever looks at what was done",
    json_schema_extra=WITHOUT,
)

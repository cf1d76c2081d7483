"""What `/api/resilience/workers` answers."""

from typing import Annotated, Literal

from pydantic import Field

from gateway.control.models.shapes import Answer
from gateway.control.models.words import Count, Instant, Seconds


class Worker(Answer):
    """One worker process, as it was about a second ago."""

    worker: Annotated[Count, Field(description="Its slot, from 0 on; its successor gets the same")]
    pid: Annotated[int, Field(ge=1)]
    state: Annotated[
        Literal["starting", "ready", "draining", "stalled"],
        Field(description="draining: its successor serves, it finishes what it has; stalled: it does not answer"),
    ]
    start_time: Instant
    connections: Annotated[Count, Field(description="Of clients, idle ones included")]
    in_flight: Count
    requests_per_second: Annotated[float, Field(ge=0, description="Of the last second")]
    event_loop_lag: Annotated[Seconds, Field(description="The longest within the last 10 seconds")]
    resident_bytes: Annotated[Count | None, Field(description="null: the system does not say it")]


class LastReload(Answer):
    """The last time that the configuration was read."""

    successful: bool
    time: Instant
    problems: Annotated[Count, Field(description="How many it had; they are in the log")]


class Workers(Answer):
    """All workers of this gateway. Where a single process serves, `workers` is empty."""

    answered_by: Annotated[Count | None, Field(description="The worker that has this connection")]
    wanted: Count
    ready: Count
    restarts: Annotated[dict[str, int], Field(description="Workers that were replaced since the start, by why")]
    config_hash: Annotated[str | None, Field(description="Equal where the configuration in use is")]
    last_reload: Annotated[LastReload | None, Field(description="null: not told yet")]
    workers: list[Worker]

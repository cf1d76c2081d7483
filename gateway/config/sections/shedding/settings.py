"""What the gateway does when all that may be in flight is: the settings of load shedding."""

from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import BeforeValidator

from gateway.config.declaring.field_types import FieldName
from gateway.config.declaring.section import Env, Seconds, Section


def _whole(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


class Shedding(Section):
    """Load shedding"""

    limit: Annotated[int, Interval(ge=1, le=1_000_000), Env("MAX_INFLIGHT", "Requests in flight in all")] = 1000
    client_share: Annotated[
        float,
        Interval(ge=0.01, le=1),
        Env("MAX_INFLIGHT_CLIENT_SHARE", "Part of them that one client may have, rounded up; 1 is all"),
    ] = 0.8
    max_queue: Annotated[
        int, Interval(ge=0, le=1_000_000), Env("MAX_INFLIGHT_QUEUE", "Requests that may wait beyond it")
    ] = 0
    queue_timeout: Annotated[
        Seconds, Interval(ge=0, le=60), Env("MAX_INFLIGHT_QUEUE_TIMEOUT_SECONDS", "Longest wait in that queue")
    ] = 0.0
    status: Annotated[Literal[429, 503], BeforeValidator(_whole), Env("LOAD_SHED_STATUS", "Status of the refusal")] = (
        429
    )
    retry_after: Annotated[
        Seconds, Interval(ge=1, le=3600), Env("LOAD_SHED_RETRY_AFTER", "Retry-After of the refusal, before jitter")
    ] = 5.0
    priority_header: Annotated[
        FieldName | None,
        Env("PRIORITY_HEADER", "Field with the name of a priority, by which a request may lower its own", "no field"),
    ] = None

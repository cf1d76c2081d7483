"""The settings of the worker processes."""

from typing import Annotated

from annotated_types import Interval

from gateway.config.declaring.field_types import WorkerCount
from gateway.config.declaring.section import Env, Seconds, Section


class Workers(Section):
    """Worker processes"""

    count: Annotated[
        WorkerCount,
        Env("WORKERS", "Processes that serve requests; auto is one for each core that may be used"),
    ] = 1
    stall: Annotated[
        Seconds,
        Interval(ge=1, le=3600),
        Env("WORKER_STALL_SECONDS", "A worker that gives no sign of life for so long is killed and replaced"),
    ] = 10.0

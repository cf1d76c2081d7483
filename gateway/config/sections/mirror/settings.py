"""Mirrors: what a route of the file says about copies of its requests."""

from typing import Annotated

from annotated_types import Interval, Len

from gateway.config.declaring.field_types import Method
from gateway.config.declaring.section import Allowed, Bytes, Section


class Mirror(Section):
    """Copies of requests, for an upstream whose answers nobody gets."""

    upstream: Annotated[str, Allowed("the name of an upstream")] | None = None
    percent: Annotated[float, Interval(ge=0, le=100)] = 100.0
    methods: Annotated[
        Annotated[list[Method], Len(1, 100)] | None, Allowed("a list of HTTP methods in capitals, such as GET, POST")
    ] = None
    max_in_flight: Annotated[int, Interval(ge=1, le=10_000)] = 50
    max_body_bytes: Annotated[Bytes, Interval(ge=0, le=16_777_216)] = 65_536
    max_answer_bytes: Annotated[Bytes, Interval(ge=0, le=1_073_741_824)] = 1_048_576

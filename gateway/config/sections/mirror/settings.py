"""Mirrors: what a route of the file says about copies of its requests."""

from typing import Annotated

from annotated_types import Interval, Len

from gateway.config.declaring.field_types import Method
from gateway.config.declaring.section import Allowed, Bytes, Meaning, Section


class Mirror(Section):
    """Copies of requests, for an upstream whose answers nobody gets."""

    upstream: Annotated[
        Annotated[str, Allowed("the name of an upstream")] | None,
        Meaning("A shadow that gets copies of requests, and that only mirrors use", "none"),
    ] = None
    percent: Annotated[float, Interval(ge=0, le=100), Meaning("Which part of the requests is copied")] = 100.0
    methods: Annotated[
        Annotated[list[Method], Len(1, 100)] | None,
        Allowed("a list of HTTP methods in capitals, such as GET, POST"),
        Meaning("Only requests with these methods", "those of the route"),
    ] = None
    max_in_flight: Annotated[
        int, Interval(ge=1, le=10_000), Meaning("Copies at once, on this host; beyond it none is made")
    ] = 50
    max_body_bytes: Annotated[
        Bytes, Interval(ge=0, le=16_777_216), Meaning("Of a request with a larger body no copy is made")
    ] = 65_536
    max_answer_bytes: Annotated[
        Bytes,
        Interval(ge=0, le=1_073_741_824),
        Meaning("So much of the shadow's answer is read, before it is broken off"),
    ] = 1_048_576

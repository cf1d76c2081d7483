"""Splits: what a route of the file says about the upstreams that share its requests."""

from typing import Annotated, Literal

from annotated_types import Interval, Len
from pydantic import Field

from gateway.config.declaring.field_types import FieldName
from gateway.config.declaring.section import Allowed, Section


class SplitShare(Section):
    """An upstream, and its part of the requests."""

    upstream: Annotated[str, Allowed("the name of an upstream")]
    weight: Annotated[int, Interval(ge=0, le=1_000_000)] = 1


class Split(Section):
    """The upstreams that share the requests of a route."""

    to: Annotated[list[SplitShare], Len(0, 20), Allowed("a list of up to 20 {upstream, weight}")] = Field(
        default_factory=list
    )
    sticky: Literal["none", "client", "field"] = "none"
    field: FieldName | None = None

"""Splits: what a route of the file says about the upstreams that share its requests."""

from typing import Annotated, Literal

from annotated_types import Interval, Len
from pydantic import Field

from gateway.config.declaring.field_types import FieldName
from gateway.config.declaring.section import Allowed, Meaning, Section


class SplitShare(Section):
    """An upstream, and its part of the requests."""

    upstream: Annotated[str, Allowed("the name of an upstream"), Meaning("One of them")]
    weight: Annotated[
        int, Interval(ge=0, le=1_000_000), Meaning("Its part of the requests, of the sum of all weights; 0: none")
    ] = 1


class Split(Section):
    """The upstreams that share the requests of a route."""

    to: Annotated[
        list[SplitShare],
        Len(0, 20),
        Allowed("a list of up to 20 {upstream, weight}"),
        Meaning("The upstreams that share the requests of the route, each once, in place of `upstream`", "none"),
    ] = Field(default_factory=list)
    sticky: Annotated[
        Literal["none", "client", "field"],
        Meaning("What a client keeps its upstream by: nothing, its consumer or else its address, or a field"),
    ] = "none"
    field: Annotated[
        FieldName | None, Meaning("The header field whose value is this; where it is absent, as with `client`", "none")
    ] = None

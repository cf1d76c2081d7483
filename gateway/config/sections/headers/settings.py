"""Changes of header fields: what a route or an upstream of the file says about them."""

from typing import Annotated

from pydantic import Field

from gateway.config.declaring.field_types import FieldName
from gateway.config.declaring.section import Allowed, Meaning, Section

# The values are checked in `gateway.config.sections.headers.build`, whose messages do not show them.
_Values = Annotated[dict[str, str], Allowed("a mapping from names of header fields to their values")]


class FieldChanges(Section):
    """What becomes of header fields."""

    set: Annotated[_Values, Meaning("Header fields that replace those of the same name", "none")] = Field(
        default_factory=dict
    )
    append: Annotated[_Values, Meaning("Header fields that are added", "none")] = Field(default_factory=dict)
    remove: Annotated[list[FieldName], Meaning("Header fields that are taken out", "none")] = Field(
        default_factory=list
    )

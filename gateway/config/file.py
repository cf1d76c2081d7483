"""The parts of the YAML file.

What may be in an entry of a part is declared in the section of that part: `FileRoute` in
`gateway.config.sections.routes.settings`, for example.
"""

from typing import Any

from pydantic import Field

from gateway.config.declaring.section import Section


class File(Section):
    """The parts of the file. Their entries are validated one by one, so that one bad entry does not hide another."""

    upstreams: dict[str, Any] = Field(default_factory=dict)
    rate_limits: dict[str, Any] = Field(default_factory=dict)
    routes: list[Any] = Field(default_factory=list)
    tiers: dict[str, Any] = Field(default_factory=dict)
    tenants: dict[str, Any] = Field(default_factory=dict)
    consumers: dict[str, Any] = Field(default_factory=dict)
    issuers: dict[str, Any] = Field(default_factory=dict)
    workflows: dict[str, Any] = Field(default_factory=dict)

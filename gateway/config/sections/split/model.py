"""Splits in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class SplitConfig:
    """Of one route: the requests go to the upstreams `to`, in proportion to their weights, of which one is above 0.

    `sticky` is what a client stays with its upstream by: nothing, who it is, or the value of the header field `field`.
    """

    to: tuple[tuple[str, int], ...]
    sticky: Literal["none", "client", "field"] = "none"
    field: str | None = None

    @property
    def upstreams(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(name for name, _ in self.to)

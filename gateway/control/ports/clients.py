"""What the control plane knows of the clients that ask most. For operators alone: it says who they are."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol


class BusyClient(NamedTuple):
    """One client of a rate limit: an address, or a tenant or consumer. Both rates are a second."""

    client: str
    requests: float
    refused: float


class BusyView(Protocol):
    """The busiest clients of every rate limit. `kept` is how many each worker keeps, 0: none."""

    @property
    def kept(self) -> int:
        """How many clients of each rate limit a worker keeps."""
        ...

    def clients(self) -> Mapping[str, Sequence[BusyClient]]:
        """By rate limit, the busiest first."""
        ...

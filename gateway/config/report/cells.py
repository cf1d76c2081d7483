"""How values are written in the cells of the tables of `gateway routes`."""

from collections.abc import Iterable, Mapping, Sequence

from gateway.config.problems import number
from gateway.syntax import hosts

Tables = Iterable[tuple[str, list[dict[str, str]]]]
"""The title of each table, and its rows: the cells by the title of their column."""

Gates = Mapping[str, Sequence[Mapping[str, object]]]
"""By route, in the order in which a request passes them: `gate` is the name, the rest are its settings."""


def seconds(amount: float) -> str:
    """`2.5s`."""
    return f"{number(amount)}s"


def yes(value: bool) -> str:
    """`yes` or `no`."""
    return "yes" if value else "no"


def queue(length: int, timeout: float) -> str:
    """How many may wait, and how long; `none` where nobody may."""
    return f"{length} for {seconds(timeout)}" if length else "none"


def endpoint_cell(host: str, port: int, weight: int = 1) -> str:
    """`host:port`, with the weight behind it where it is not 1."""
    address = hosts.written(host, port)
    return address if weight == 1 else f"{address}*{weight}"

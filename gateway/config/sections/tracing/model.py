"""Traces, as the rest of the program sees them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class TracingConfig:
    """`url` is where spans are posted, None where none are made. `service_name`, or else a `resource` attribute, is
    what the service is called there; without both, it is called as everywhere. `ratio` is the share of traces that is
    sampled: of those that begin here with `parent_based`, else of all. `kept_a_second` bounds those that are kept
    although they were not sampled, of each kind; those of `slow` seconds are one kind, 0 for none. `queue` and `batch`
    are numbers of spans; `timeout` and `delay` are in seconds."""

    url: str | None = None
    export_headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    timeout: float = 10.0
    compress: bool = False
    ca_file: str | None = None
    service_name: str | None = None
    resource: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ratio: float = 1.0
    parent_based: bool = True
    kept_a_second: int = 10
    slow: float = 1.0
    queue: int = 2048
    batch: int = 512
    delay: float = 5.0


def pairs_of(text: str) -> dict[str, str]:
    """`name=value,name=value` with percent-encoded values, as OpenTelemetry writes headers and attributes. Raises
    ValueError for anything else, and for what no header field may have."""
    pairs: dict[str, str] = {}
    for item in text.split(","):
        if not item.strip():
            continue
        name, equals, value = item.partition("=")
        name, value = name.strip(), unquote(value.strip(), errors="strict")
        if not equals or not name or not (name + value).isprintable() or not name.isascii() or set(name) & set(" :;"):
            raise ValueError(text)
        pairs[name] = value
    return pairs

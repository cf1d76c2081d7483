"""The effective configuration as plain values, for programs. Secrets are masked, but for `flat`."""

import dataclasses
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from gateway.config.loading import Loaded
from gateway.config.model import GatewayConfig
from gateway.config.problems import MASK
from gateway.config.report.cells import Gates
from gateway.config.worker_shares import caps_of, shares_of

_SECRETS = frozenset(
    {"url", "export_headers", "password", "sentinel_password", "token", "webhook_url", "webhook_secret", "sha256"}
    # Values of header fields and of settings of hooks, which may be keys.
    | {"set", "append", "settings"}
)


def as_json(loaded: Loaded, gates: Gates, workers: int) -> str:
    """The configuration, in `gates` the gates of each route, in `shares` what each worker has of the caps of the host,
    and in `origins` where each setting comes from, in the order of the settings."""
    origins = {each.setting: {"value": each.value, "source": each.source} for each in loaded.origins}
    shares = {name: shares_of(cap, workers) for name, cap in caps_of(loaded.config).items()}
    return json.dumps(_plain(loaded.config) | {"gates": gates, "shares": shares, "origins": origins}, indent=2) + "\n"


def flat(config: GatewayConfig) -> Iterator[tuple[str, str, bool]]:
    """Each setting in effect: its path, its value as text, and whether that is a secret. For comparing, not for
    showing: secrets are not masked."""
    yield from _flat("", config, secret=False)


def _flat(path: str, value: Any, *, secret: bool) -> Iterator[tuple[str, str, bool]]:
    parts: Iterable[tuple[str, Any]]
    if dataclasses.is_dataclass(value):
        parts = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
    elif isinstance(value, Mapping):
        parts = value.items()
    elif isinstance(value, list | tuple) and any(map(dataclasses.is_dataclass, value)):
        # By name where there is one, so that a new route does not make all behind it look changed.
        parts = [(str(getattr(each, "name", at)), each) for at, each in enumerate(value)]
    else:
        numbers = isinstance(value, frozenset) and all(isinstance(each, int) for each in value)
        yield path, _ranges(value) if numbers and value else str(_plain(value)), secret
        return
    for name, inner in parts:
        hidden = secret or (name in _SECRETS and inner is not None)
        yield from _flat(f"{path}.{name}" if path else name, inner, secret=hidden)


def _ranges(numbers: Iterable[int]) -> str:
    """`429, 500-599`."""
    ranges: list[list[int]] = []
    for each in sorted(numbers):
        if ranges and each == ranges[-1][1] + 1:
            ranges[-1][1] = each
        else:
            ranges.append([each, each])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return {
            field.name: MASK if field.name in _SECRETS and inner not in (None, ()) else _plain(inner)
            for field in dataclasses.fields(value)
            for inner in [getattr(value, field.name)]
        }
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)

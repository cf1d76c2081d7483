"""One configuration in effect: what the first worker of a generation has read, as the supervisor needs it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gateway.ipc.socket_purposes import ADMIN, LISTENER
from gateway.supervisor.sockets import Address

MOST_LINES = 200

_PURPOSES = (LISTENER, ADMIN)


@dataclass(frozen=True, slots=True)
class Generation:
    """`settings` has every effective setting by its path: the value as it may be shown, and a digest that tells one
    from another. `texts` are the files that were read. Times are in seconds."""

    number: int
    version: str
    summary: str
    hash: str
    settings: Mapping[str, list[str]]
    notices: list[str]
    texts: Mapping[str, str | None]
    workers: int
    addresses: Mapping[str, Address]
    log_level: str
    log_format: str
    log_dir: str | None
    log_retention_days: int
    log_max_file_bytes: int
    stall: float
    drain: float
    tunnel_drain: float
    redis: bool

    @classmethod
    def of(cls, number: int, facts: Mapping[str, Any]) -> "Generation":
        """From what a worker has read (`gateway.worker.reading`)."""
        addresses = {purpose: _address(facts[purpose]) for purpose in _PURPOSES if facts[purpose] is not None}
        own = {name: facts[name] for name in cls.__slots__ if name not in {"number", "addresses"}}
        return cls(number=number, addresses=addresses, **own)

    def dump(self) -> dict[str, Any]:
        """As `of` takes it."""
        own = {name: getattr(self, name) for name in self.__slots__ if name not in {"number", "addresses"}}
        addresses = {purpose: self.addresses.get(purpose) for purpose in _PURPOSES}
        return {**own, **{purpose: address and list(address) for purpose, address in addresses.items()}}


def _address(pair: list[Any]) -> Address:
    return str(pair[0]), int(pair[1])


def differences(old: Mapping[str, list[str]], new: Mapping[str, list[str]]) -> list[str]:
    """What changes from one configuration to another, one line for each setting, in the order of the settings. A secret
    that has changed is shown by its mask on both sides. At most `MOST_LINES`; the last says how many are left out."""
    lines = []
    for path in [*new, *(each for each in old if each not in new)]:
        before, after = old.get(path), new.get(path)
        if before is None and after is not None:
            lines.append(f"{path}: {after[0]} (new)")
        elif after is None and before is not None and not any(each.startswith(f"{path}.") for each in new):
            lines.append(f"{path}: gone (was {before[0]})")
        elif before is not None and after is not None and before[1] != after[1]:
            lines.append(f"{path}: {before[0]} -> {after[0]}")
    left_out = len(lines) - MOST_LINES
    return lines if left_out <= 0 else [*lines[:MOST_LINES], f"and {left_out} more"]

"""What an upstream announces of its connection: the field Keep-Alive of a response."""

import re
from typing import Final, NamedTuple

# The upstream's clock for its timeout starts and ends earlier than ours, by the time on the way.
_MARGIN: Final = 1.0
_PARAMETER: Final = re.compile(rb"[ \t]*(timeout|max)[ \t]*=[ \t]*\"?([0-9]{1,9})\"?[ \t]*", re.IGNORECASE)


class KeepAlive(NamedTuple):
    """What an upstream promises about its connection: seconds that it may be idle, and further requests. None: nothing
    said. The margins are already taken off."""

    idle: float | None
    requests: int | None


def parse_keep_alive(value: bytes) -> KeepAlive | None:
    """The parameters of a Keep-Alive field (RFC 2068 section 19.7.1.1; there is no newer text). What is not a number
    is as good as not said."""
    idle: float | None = None
    requests: int | None = None
    for part in value.split(b","):
        match = _PARAMETER.fullmatch(part)
        if match is None:
            continue
        number = int(match[2])
        if match[1].lower() == b"max":
            requests = max(0, number - 1)
        else:
            idle = number - min(_MARGIN, number / 2)
    return KeepAlive(idle, requests) if idle is not None or requests is not None else None

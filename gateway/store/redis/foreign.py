"""Keys of another type than the gateway's: the scripts remove them (`lua/foreign.lua`), and the log names them.

A script that has removed some answers `REMOVED`, the keys and types in turn, and its own answer.
"""

import logging
import time
from collections.abc import Callable
from typing import Any, Final

logger = logging.getLogger("gateway.fleet")

INTERVAL: Final = 60.0
"""The least seconds between two lines."""
MOST_NAMED: Final = 5


class ForeignKeys:
    """Takes answers out of their envelopes, and logs what those say, with one line a minute at most."""

    __slots__ = ("_clock", "_quiet_until")

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._quiet_until = float("-inf")

    def opened(self, answers: list[Any]) -> list[Any]:
        """The answers of scripts, each without its envelope."""
        removed: list[Any] = []
        for i, answer in enumerate(answers):
            if (
                isinstance(answer, list)
                and len(answer) == 3
                and answer[0] == b"REMOVED"
                and isinstance(answer[1], list)
            ):
                removed += answer[1]
                answers[i] = answer[2]
        if removed:
            self._tell([_text(each) for each in removed])
        return answers

    def _tell(self, removed: list[str]) -> None:
        now = self._clock()
        if now >= self._quiet_until:
            self._quiet_until = now + INTERVAL
            named = [f"{key} ({kind})" for key, kind in zip(removed[::2], removed[1::2], strict=True)]
            more = f" and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
            logger.warning(
                "removed from Redis what is not the gateway's: %s%s",
                ", ".join(named[:MOST_NAMED]),
                more,
                extra={"event": "redis_keys_removed"},
            )


def _text(value: bytes) -> str:
    return value.decode("utf-8", "replace")

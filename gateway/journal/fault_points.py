"""Fault points: named places at which a test has the process killed, as if the machine had lost its power there.

The variable `GATEWAY_FAULT_POINT` is read once, when this module is imported. `journal.commit` kills the process the
first time that it comes to the point of that name, `journal.commit:3` the third time. Only the tests set it; it is no
setting of the gateway, and without it a point costs one comparison.
"""

import os
import signal
from typing import Final

_NAME, _, _TIMES = os.environ.get("GATEWAY_FAULT_POINT", "").partition(":")
_ARMED: Final = bool(_NAME)
_left = int(_TIMES or 1)


def reach(name: str) -> None:
    """The process comes to the point `name`. Does not return where a test has chosen it."""
    if _ARMED:
        _reached(name)


def _reached(name: str) -> None:
    global _left  # noqa: PLW0603 - how often the point is still to be passed, for the whole process
    if name == _NAME:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

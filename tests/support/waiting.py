"""Waiting for what happens in another process or thread."""

import time
from collections.abc import Callable


def eventually(condition: Callable[[], bool], what: str, timeout: float = 5.0) -> None:
    """Poll until the condition holds; AssertionError with `what` after `timeout`."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not {what} within {timeout} s"
        time.sleep(0.01)

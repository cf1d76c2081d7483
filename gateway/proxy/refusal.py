"""Refusals are values: what the gateway answers in place of the upstream, and why."""

import math
import random
from typing import NamedTuple


class Refusal(NamedTuple):
    """`reason` is the stable word of docs/behaviour.md. `retry_after` in seconds, jitter included. `error` is an RFC
    9209 error type where the reason's usual one would be less than the truth. `extra` are complete header lines."""

    status: int
    reason: str
    detail: str
    retry_after: float | None = None
    error: str | None = None
    extra: bytes = b""
    close: bool = False


def jittered(seconds: float, rng: random.Random) -> int:
    """A `retry_after` that spreads those who obey, so that they do not come back as one wave.

    In whole seconds, as the field has it (what is finer is lost in rounding): `seconds` rounded up, plus uniformly 0 to
    a fifth of it, or to 1 where a fifth is less. HOT.
    """
    least = math.ceil(seconds)
    return least + int(rng.random() * (max(1, least // 5) + 1))

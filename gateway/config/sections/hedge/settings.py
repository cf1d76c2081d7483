"""Hedges: when a request of a route that is still without an answer is sent a second time."""

from typing import Annotated, Final

from annotated_types import Interval
from pydantic import BeforeValidator

from gateway.config.declaring import addresses
from gateway.config.declaring.section import Allowed, Env, Seconds, Section
from gateway.config.problems import nearest
from gateway.syntax import units

OFF: Final = "off"
QUANTILES: Final = {"p90": 0.9, "p95": 0.95, "p99": 0.99}
_AFTER_ALLOWED: Final = "off, p90, p95, p99, or a time from 1 ms to 60 s, such as 50ms"
_LEAST, _MOST = 0.001, 60.0


def fixed(text: str) -> float | None:
    """The seconds of a fixed time; None for a quantile, and for what is neither."""
    seconds = units.number(text)
    return units.duration(text) if seconds is None else seconds


def _after(value: object) -> object:
    if isinstance(value, bool):
        # YAML reads a bare `off` as false.
        return value or OFF
    text = str(value) if isinstance(value, int | float) else value
    if not isinstance(text, str) or text == OFF or text in QUANTILES:
        return text
    seconds = fixed(text)
    if seconds is None or not _LEAST <= seconds <= _MOST:
        addresses.reject(_AFTER_ALLOWED, nearest(text, [OFF, *QUANTILES]))
    return text


class Hedge(Section):
    """Hedged requests of a route"""

    after: Annotated[
        str,
        BeforeValidator(_after),
        Allowed(_AFTER_ALLOWED),
        Env("HEDGE_AFTER", "After how long without an answer a GET or HEAD is sent once more; p95 is that of answers"),
    ] = OFF
    min_after: Annotated[
        Seconds,
        Interval(ge=0.001, le=60),
        Env("HEDGE_MIN_AFTER_SECONDS", "With p90, p95 or p99: never sooner than this"),
    ] = 0.01
    min_observations: Annotated[
        int,
        Interval(ge=20, le=100_000),
        Env("HEDGE_MIN_OBSERVATIONS", "With p90, p95 or p99: not before so many answers of the last minute are known"),
    ] = 100

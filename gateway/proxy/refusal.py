"""Refusals are values: what the gateway answers in place of the upstream, and why."""

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

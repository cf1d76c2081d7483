"""Mirrors in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class MirrorConfig:
    """Of one route: a copy of `percent` of its requests goes to `upstream`, if they have one of the `methods` (None:
    any) and a body of at most `max_body_bytes`. `max_in_flight` copies are under way at once, and at most
    `max_answer_bytes` of an answer are read."""

    upstream: str
    percent: float = 100.0
    methods: frozenset[str] | None = None
    max_in_flight: int = 50
    max_body_bytes: int = 65_536
    max_answer_bytes: int = 1_048_576

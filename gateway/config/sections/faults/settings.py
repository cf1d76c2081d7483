"""Faults on demand: whether an operator may have upstreams fail, and how far."""

from typing import Annotated

from annotated_types import Interval

from gateway.config.declaring.section import Env, Seconds, Section, Unit


class Faults(Section):
    """Faults on demand"""

    enabled: Annotated[
        bool,
        Env("FAULTS_ENABLED", "Whether an operator may make upstreams fail for drills; only with ADMIN_TOKEN"),
    ] = False
    max_percent: Annotated[
        float,
        Interval(ge=0.1, le=100),
        Unit("percent"),
        Env("FAULTS_MAX_PERCENT", "Greatest share of an upstream's attempts that all its faults strike together"),
    ] = 50.0
    max_duration: Annotated[
        Seconds,
        Interval(ge=1, le=86_400),
        Env("FAULTS_MAX_DURATION_SECONDS", "Longest life of a fault, and that of a chaos key without an end"),
    ] = 600.0

"""From the settings of idempotency keys to what they mean, and what is wrong with them."""

from collections.abc import Sequence

from gateway.config.building.sources import Sources
from gateway.config.reading.yaml_tree import Location
from gateway.config.sections.idempotency.model import IdempotencyConfig, IdempotencyLimits
from gateway.config.sections.idempotency.settings import (
    POSTGRESQL_RECORDS,
    SQLITE_RECORDS,
    Idempotency,
    IdempotencyRecords,
)

_HOUR = 3600.0


def _config(section: Idempotency) -> IdempotencyConfig | None:
    """The domain type of a route, None where keys mean nothing."""
    if section.mode == "off":
        return None
    return IdempotencyConfig(
        required=section.mode == "required",
        methods=frozenset(section.methods),
        ttl=section.ttl * _HOUR,
        wait=section.wait,
        max_response_bytes=section.max_response_bytes,
        on_unknown=section.on_unknown,
        scope=section.scope,
        on_store_failure=section.on_store_failure,
    )


def limits_config(section: IdempotencyRecords, *, sqlite: bool) -> IdempotencyLimits:
    """The domain type; what is not set depends on where the journal is."""
    usual = SQLITE_RECORDS if sqlite else POSTGRESQL_RECORDS
    return IdempotencyLimits(
        usual if section.max_records is None else section.max_records,
        section.max_bytes,
        section.cleanup_interval * _HOUR,
    )


def idempotency_of(
    sources: Sources, section: Idempotency, route: Location | None, authentication: Sequence[str]
) -> IdempotencyConfig | None:
    """The domain type of a route, None where keys mean nothing. `route` is its place in the file, None for the route
    that the environment makes. What is wrong is reported."""
    if section.mode != "off" and section.scope == "tenant" and not authentication:
        place = sources.place("routes", "idempotency", location=(*(route or ()), "idempotency") if route else ())
        place.report(("scope",), section.scope, "client, or a route with authentication")
    return _config(section)

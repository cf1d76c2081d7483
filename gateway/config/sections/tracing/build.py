"""Traces: where they go and which of them, from the settings."""

from importlib.util import find_spec
from types import MappingProxyType

from gateway.config.building.file_checks import check_authorities
from gateway.config.building.place import Place
from gateway.config.sections.tracing.model import TracingConfig, pairs_of
from gateway.config.sections.tracing.settings import Tracing

_ALWAYS = {"always_on": 1.0, "always_off": 0.0}
_PARENT_BASED = "parentbased_"


def tracing_config(given: Tracing, place: Place) -> TracingConfig:
    """The domain type. Without the library that spans are encoded with, an endpoint is a problem."""
    url = given.traces_endpoint or (None if given.endpoint is None else f"{given.endpoint.rstrip('/')}/v1/traces")
    if url is not None and find_spec("opentelemetry") is None:
        name = "endpoint" if given.traces_endpoint is None else "traces_endpoint"
        place.report((name,), getattr(given, name), "only with the extra `otel` installed")
    if given.endpoint is not None and "?" in given.endpoint:
        place.report(("endpoint",), given.endpoint, "a URL without a query; the traces endpoint may have one")
    check_authorities(given.ca_file, ("ca_file",), place)
    sampler = given.sampler.removeprefix(_PARENT_BASED)
    return TracingConfig(
        url=url,
        export_headers=MappingProxyType(pairs_of(given.export_headers or "")),
        timeout=given.timeout / 1000,
        compress=given.compression == "gzip",
        ca_file=given.ca_file,
        service_name=given.service_name,
        resource=MappingProxyType(pairs_of(given.resource_attributes or "")),
        ratio=_ALWAYS.get(sampler, given.ratio),
        parent_based=given.sampler.startswith(_PARENT_BASED),
        kept_a_second=given.kept_a_second,
        slow=given.slow,
        queue=given.queue,
        batch=given.batch,
        delay=given.delay / 1000,
    )

"""Traces: the names and defaults of OpenTelemetry's own specification, where it has them.

https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import AfterValidator, Field

from gateway.config.declaring import addresses
from gateway.config.declaring.field_types import FileName, Fraction, WebhookUrl
from gateway.config.declaring.section import Allowed, Env, Seconds, Section, Unit
from gateway.config.sections.tracing.model import pairs_of

_PAIRS_ALLOWED = "name=value pairs with commas in between, values percent-encoded"


def _pairs(text: str) -> str:
    try:
        pairs_of(text)
    except ValueError:
        addresses.reject(_PAIRS_ALLOWED)
    return text


Pairs = Annotated[str, AfterValidator(_pairs), Allowed(_PAIRS_ALLOWED)]
Milliseconds = Annotated[int, Unit("milliseconds")]


class Tracing(Section):
    """Traces (OpenTelemetry; off without an endpoint)"""

    endpoint: Annotated[
        WebhookUrl | None,
        Env("OTEL_EXPORTER_OTLP_ENDPOINT", "The collector; /v1/traces is put behind it", "no traces are sent"),
    ] = None
    traces_endpoint: Annotated[
        WebhookUrl | None,
        Env("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "The collector's whole URL for traces", "from the one above"),
    ] = None
    protocol: Annotated[
        Literal["http/protobuf"], Env("OTEL_EXPORTER_OTLP_PROTOCOL", "There is no other one; gRPC is not spoken")
    ] = "http/protobuf"
    export_headers: Annotated[
        Pairs | None,
        Env("OTEL_EXPORTER_OTLP_HEADERS", "Header fields for the collector, such as its key", "none", secret=True),
    ] = Field(default=None, repr=False)
    timeout: Annotated[
        Milliseconds, Interval(ge=100, le=60_000), Env("OTEL_EXPORTER_OTLP_TIMEOUT", "Bounds one attempt to send")
    ] = 10_000
    compression: Annotated[
        Literal["none", "gzip"], Env("OTEL_EXPORTER_OTLP_COMPRESSION", "How what is sent is compressed")
    ] = "none"
    ca_file: Annotated[
        FileName | None,
        Env("OTEL_EXPORTER_OTLP_CERTIFICATE", "CA certificates for an https collector, PEM", "the system's"),
    ] = None
    service_name: Annotated[
        str | None, Env("OTEL_SERVICE_NAME", "What the spans say of the service", "SERVICE_NAME")
    ] = None
    resource_attributes: Annotated[
        Pairs | None, Env("OTEL_RESOURCE_ATTRIBUTES", "More that they say of it, such as team=payments", "nothing")
    ] = None
    sampler: Annotated[
        Literal[
            "parentbased_traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "traceidratio",
            "always_on",
            "always_off",
        ],
        Env("OTEL_TRACES_SAMPLER", "Which traces are sampled; parentbased_ follows the traceparent of a client"),
    ] = "parentbased_traceidratio"
    ratio: Annotated[
        Fraction, Env("OTEL_TRACES_SAMPLER_ARG", "Share of traces that are sampled, with a sampler by ratio")
    ] = 1.0
    kept_a_second: Annotated[
        int,
        Interval(ge=0, le=1000),
        Env(
            "TRACE_KEEP_PER_SECOND",
            "Of those not sampled, kept by each worker: so many errors, refusals, retried and slow ones each",
        ),
    ] = 10
    slow: Annotated[
        Seconds, Interval(ge=0, le=3600), Env("TRACE_SLOW_SECONDS", "From when a request counts as slow; 0 is never")
    ] = 1.0
    queue: Annotated[
        int, Interval(ge=1, le=100_000), Env("OTEL_BSP_MAX_QUEUE_SIZE", "Spans that wait at most, in each worker")
    ] = 2048
    batch: Annotated[
        int, Interval(ge=1, le=10_000), Env("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "Spans that are sent at once")
    ] = 512
    delay: Annotated[
        Milliseconds, Interval(ge=10, le=60_000), Env("OTEL_BSP_SCHEDULE_DELAY", "After which fewer are sent")
    ] = 5000

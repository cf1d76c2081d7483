"""From the configuration to what traces exchanges, and what is counted of it."""

import os
import random
import socket
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway import __version__
from gateway.config.model import GatewayConfig
from gateway.identity.masking import masked
from gateway.proxy.requests.ids import Ids
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.tracing.trace import Traces
from gateway.telemetry.tracing.tracer import Tracer

if TYPE_CHECKING:
    from gateway.telemetry.tracing.exporter import Exporter


@dataclass(frozen=True, slots=True)
class Tracing:
    """`traces` begins traces. `tracer` and `exporter` are None where no spans are exported."""

    traces: Traces
    tracer: Tracer | None = None
    exporter: "Exporter | None" = None


def build_tracing(
    config: GatewayConfig, metrics: Metrics, ids: Ids, rng: random.Random, slot: int | None = None
) -> Tracing:
    """`slot` is the number of the worker, None where there is but one process. Without an endpoint there is no thread,
    no metric, and the library is not loaded."""
    tracing = config.tracing
    traces = Traces(ids.new, tracing.ratio, parent_based=tracing.parent_based, exported=tracing.url is not None)
    if tracing.url is None:
        return Tracing(traces)
    from gateway.telemetry.tracing.exporter import Collector, Exporter  # noqa: PLC0415 - only with the extra `otel`
    from gateway.telemetry.tracing.spans import SpanEncoder  # noqa: PLC0415

    schemes = {name: "https" if upstream.tls is not None else "http" for name, upstream in config.upstreams.items()}
    encoder = SpanEncoder(_resource(config, slot), schemes, __version__)
    headers = tuple(tracing.export_headers.items())
    collector = Collector(tracing.url, headers, tracing.timeout, tracing.compress, tracing.ca_file)
    exporter = Exporter(collector, encoder, rng, capacity=tracing.queue, batch=tracing.batch, delay=tracing.delay)
    _count(exporter, metrics)
    tracer = Tracer(traces, exporter.put, masked, kept_a_second=tracing.kept_a_second, slow=tracing.slow)
    return Tracing(traces, tracer, exporter)


def _resource(config: GatewayConfig, slot: int | None) -> dict[str, str | int | bool]:
    """What spans say of this process. Its id is made anew for each, as the conventions want it. What is configured goes
    before what is known."""
    tracing = config.tracing
    resource: dict[str, str | int | bool] = {
        "service.name": config.service,
        "deployment.environment.name": config.environment,
        "service.version": __version__,
        "service.instance.id": str(uuid.uuid4()),
        "host.name": socket.gethostname(),
        "process.pid": os.getpid(),
        "telemetry.sdk.name": "gateway",
        "telemetry.sdk.language": "python",
        "telemetry.sdk.version": __version__,
    }
    if slot is not None:
        resource["gateway.worker"] = str(slot)
    resource.update(tracing.resource)
    if tracing.service_name is not None:
        resource["service.name"] = tracing.service_name
    return resource


def _count(exporter: "Exporter", metrics: Metrics) -> None:
    metrics.counter(
        "gateway_traces_spans_total",
        "Spans, by what became of them: the collector took them, did not, or there was no room for them.",
        ("outcome",),
        lambda: (
            (("exported",), exporter.exported),
            (("failed",), exporter.failed),
            (("dropped",), exporter.dropped),
        ),
    )
    metrics.counter(
        "gateway_traces_export_retries_total",
        "Further attempts at sending a batch of spans.",
        (),
        lambda: (((), exporter.retries),),
    )
    metrics.gauge(
        "gateway_traces_queue_spans",
        "Spans that wait to be sent.",
        (),
        lambda: (((), exporter.waiting),),
    )

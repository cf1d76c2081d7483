"""From the configuration to everything that is counted and written down."""

import random
from dataclasses import dataclass

from gateway import __version__
from gateway.config.model import GatewayConfig
from gateway.config.sections.log.model import LogConfig
from gateway.control.history import CircuitHistory
from gateway.telemetry.busiest import Busiest
from gateway.telemetry.log.access import AccessLog, beside_file
from gateway.telemetry.log.error_lines import ErrorLines
from gateway.telemetry.log.files import LogFiles
from gateway.telemetry.log.lines import LineWriter
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.services.errors import ErrorLog


@dataclass(frozen=True, slots=True)
class Telemetry:
    """Where everything is counted and written down."""

    metrics: Metrics
    errors: ErrorLog
    error_lines: ErrorLines
    history: CircuitHistory
    access_log: AccessLog | None
    busiest: Busiest


def build_telemetry(config: GatewayConfig, writer: LineWriter, files: LogFiles | None, rng: random.Random) -> Telemetry:
    """`writer` takes the lines for standard output, `files` those for LOG_DIR."""
    metrics = Metrics(
        config.service,
        [route.name for route in config.routes],
        config.upstreams,
        __version__,
        policies=config.rate_limits.policies,
    )
    metrics.counter(
        "gateway_log_lines_dropped_total",
        "Log lines lost.",
        (),
        lambda: (((), writer.dropped + (files.dropped if files is not None else 0)),),
    )
    errors = ErrorLog(
        config.service,
        config.upstreams,
        capacity=config.errors.recent_max,
        on_record=files.record if files is not None else None,
    )
    metrics.counter(
        "gateway_service_refusals_total",
        "Requests that the gateway refused, by the upstream of their route; those of no route have an empty service.",
        ("service", "reason"),
        errors.refusals,
    )
    access_log = _access_log(config.log, writer, files)
    busiest = Busiest(config.console.top_clients, rng)
    return Telemetry(metrics, errors, ErrorLines(errors), CircuitHistory(config.upstreams), access_log, busiest)


def _access_log(config: LogConfig, writer: LineWriter, files: LogFiles | None) -> AccessLog | None:
    if not config.access_log:
        return None
    if files is None:
        return AccessLog(writer.write, config.format, query=config.access_log_query)
    return beside_file(writer.write, files.write, config.format, query=config.access_log_query)

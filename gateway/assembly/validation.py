"""What validates requests, where a route has `validate`: shared parts, metrics, and what runs beside."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.config.model import GatewayConfig
from gateway.proxy.gates.validation import REASONS, ValidationGate, ValidationParts
from gateway.proxy.routes.topology import Route
from gateway.telemetry.log.validation_lines import ValidationLines
from gateway.telemetry.metrics.catalogue import Metrics
from gateway.validation.apart import Apart


@dataclass(frozen=True, slots=True)
class Validation:
    """Made once for each gateway with such a route."""

    lines: ValidationLines
    apart: Apart
    parts: ValidationParts
    metrics: Metrics

    def start(self) -> None:
        """Begin what runs beside the requests."""
        self.lines.start()

    async def stop(self) -> None:
        """End it."""
        await self.apart.stop()
        self.lines.stop()

    def count(self, routes: Iterable[Route]) -> None:
        """Show what the gates of these routes have found."""
        gates = {route.name: gate for route in routes for gate in route.chain.gates if isinstance(gate, ValidationGate)}
        self.metrics.counter(
            "request_validation_total",
            "Requests that were validated, by what came of it.",
            ("route", "outcome"),
            lambda: (
                ((route, outcome), count) for route, gate in gates.items() for outcome, count in gate.counts.items()
            ),
        )
        self.metrics.counter(
            "validation_errors_total",
            "Requests that are invalid; mode says whether they were refused (enforce) or passed (report).",
            ("route", "reason", "mode"),
            lambda: (
                ((route, reason, "enforce" if gate.enforce else "report"), gate.counts[reason])
                for route, gate in gates.items()
                for reason in REASONS
            ),
        )


def build_validation(config: GatewayConfig, metrics: Metrics) -> Validation | None:
    """None where no route validates."""
    if all(route.validation is None for route in config.routes):
        return None
    lines = ValidationLines(each=config.validation.log_errors)
    rules = [route.validation.rules for route in config.routes if route.validation is not None]
    apart = Apart(rules, config.validation.timeout)
    return Validation(lines, apart, ValidationParts(lines, apart, strict=config.validation.strict), metrics)

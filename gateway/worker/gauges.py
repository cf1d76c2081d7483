"""What only a gateway with workers has to tell: how many there are, why some were replaced, how the last reload was."""

from collections.abc import Iterator

from gateway.telemetry.metrics.catalogue import Metrics
from gateway.telemetry.metrics.cells import Labels
from gateway.worker.host import Host
from gateway.worker.loop_lag import LoopLag

STATES = ("starting", "ready", "draining", "stalled")

Series = Iterator[tuple[Labels, float]]


def register(metrics: Metrics, host: Host, lag: LoopLag) -> None:
    """Add them to `metrics`, once."""
    _register_workers(metrics, host)
    _register_configuration(metrics, host)
    metrics.gauge(
        "gateway_worker_event_loop_lag_seconds",
        "The longest time within the last 10 s by which the event loop was late.",
        (),
        lambda: (((), lag.seconds),),
        "worker",
    )


def _register_workers(metrics: Metrics, host: Host) -> None:
    def workers() -> Series:
        states: list[str] = [each.state for each in host.view().workers]
        return (((state,), states.count(state)) for state in STATES)

    def restarts() -> Series:
        return (((cause,), count) for cause, count in host.view().restarts.items())

    metrics.gauge("gateway_workers", "Worker processes.", ("state",), workers, "mine")
    metrics.gauge(
        "gateway_workers_wanted",
        "Worker processes that there are to be.",
        (),
        lambda: (((), host.view().wanted),),
        "mine",
    )
    metrics.counter(
        "gateway_worker_restarts_total", "Workers that were replaced, by why.", ("cause",), restarts, "mine"
    )


def _register_configuration(metrics: Metrics, host: Host) -> None:
    def successful() -> Series:
        reload = host.view().reload
        if reload is not None:
            yield (), int(reload.successful)

    def succeeded_at() -> Series:
        reload = host.view().reload
        if reload is not None and reload.succeeded_at is not None:
            yield (), reload.succeeded_at

    def config_hash() -> Series:
        digits = host.view().config_hash[:12]
        if digits:
            # 48 bits, which a float holds exactly.
            yield (), int(digits, 16)

    metrics.gauge(
        "gateway_config_last_reload_successful",
        "1 when the configuration that was read last is in use, 0 when it had problems.",
        (),
        successful,
        "mine",
    )
    metrics.gauge(
        "gateway_config_last_reload_success_timestamp_seconds",
        "When a configuration was last taken into use, in seconds since the epoch.",
        (),
        succeeded_at,
        "mine",
    )
    metrics.gauge(
        "gateway_config_hash", "A number for the configuration in use, equal where it is.", (), config_hash, "mine"
    )

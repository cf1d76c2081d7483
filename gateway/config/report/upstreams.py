"""What `gateway routes` says about upstreams: a row for each, in several tables."""

from gateway.config.problems import number
from gateway.config.report.cells import endpoint_cell, queue, seconds, yes
from gateway.config.sections.upstreams.model import UpstreamConfig


def upstream_row(upstream: UpstreamConfig) -> dict[str, str]:
    """What an upstream is, and how long it is waited for."""
    scheme = "http" if upstream.tls is None else "https" if upstream.tls.verify else "https, not verified"
    check = upstream.health_check
    return {
        "name": upstream.name,
        "scheme": scheme,
        "endpoints": " ".join(endpoint_cell(each.host, each.port, each.weight) for each in upstream.endpoints),
        "base path": upstream.base_path or "/",
        "host": upstream.authority,
        "balance": upstream.balance,
        "connect": seconds(upstream.connect_timeout),
        "attempt": seconds(upstream.attempt_timeout),
        "total": seconds(upstream.total_timeout),
        "idle": seconds(upstream.idle_timeout),
        "health check": f"{check.path} every {seconds(check.interval)}" if check else "no",
    }


def retry_row(upstream: UpstreamConfig) -> dict[str, str]:
    """How its requests are sent again."""
    retry, budget = upstream.retry, upstream.budget
    return {
        "upstream": upstream.name,
        "attempts": str(retry.max_attempts),
        "delay": f"{seconds(retry.base_delay)} to {seconds(retry.max_delay)}",
        "strategy": retry.strategy,
        "statuses": ",".join(str(status) for status in sorted(retry.statuses)) or "none",
        "sent POSTs": yes(retry.non_idempotent),
        "budget": f"{budget.ratio:.0%} + {number(budget.min_per_second)}/s",
    }


def breaker_row(upstream: UpstreamConfig) -> dict[str, str]:
    """When its circuit opens and closes."""
    breaker = upstream.breaker
    slow = breaker.slow_call_threshold
    return {
        "upstream": upstream.name,
        "failures": str(breaker.failure_threshold),
        "failure rate": f"{breaker.failure_rate_threshold:.0%} of {breaker.minimum_calls}+",
        "slow calls": f"{breaker.slow_call_rate_threshold:.0%} over {seconds(slow)}" if slow is not None else "off",
        "window": f"{breaker.window_size} calls, {seconds(breaker.window_seconds)}",
        "reset": seconds(breaker.reset_timeout),
        "probes": str(breaker.half_open_max_probes),
        "successes": str(breaker.half_open_success_threshold),
    }


def concurrency_row(upstream: UpstreamConfig) -> dict[str, str]:
    """What is in flight to it at once."""
    bulkhead, ejection, adaptive = upstream.bulkhead, upstream.ejection, upstream.adaptive
    return {
        "upstream": upstream.name,
        "bulkhead": str(bulkhead.limit),
        "adaptive": adaptive.words(bulkhead.limit) if adaptive else "no",
        "queue": queue(bulkhead.max_queue, bulkhead.queue_timeout),
        "connections": f"{upstream.max_connections} each, idle {seconds(upstream.keepalive_timeout)}",
        "ejection": f"after {ejection.consecutive_failures}, {seconds(ejection.base_time)} to "
        f"{seconds(ejection.max_time)}, at most {ejection.max_fraction:.0%}",
    }

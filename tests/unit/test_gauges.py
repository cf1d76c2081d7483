"""What the gauges of several workers amount to."""

import asyncio
import os

from gateway.assembly.gateway import build
from gateway.config import load
from gateway.telemetry.log.lines import LineWriter

# What two workers say alike is not twice as much of these.
NOT_SUMMED = ("_seconds", "_ratio", "_state", "_up", "_failed", "_available")


def test_a_time_a_share_or_a_state_is_not_the_sum_of_what_workers_say() -> None:
    async def combinations() -> dict[str, str]:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        writer = LineWriter(descriptor)
        try:
            metrics = build(load({"UPSTREAM_URL": "http://orders.test"}, None), writer).telemetry.metrics
            return {name: entry[1] for name, entry in metrics.snapshot().items() if entry[0] == "gauge"}
        finally:
            writer.close()
            os.close(descriptor)

    found = asyncio.run(combinations())
    assert {"gateway_dns_stale_seconds", "breaker_state", "gateway_endpoint_available"} <= set(found)
    assert [name for name, combine in found.items() if name.endswith(NOT_SUMMED) and combine == "sum"] == []

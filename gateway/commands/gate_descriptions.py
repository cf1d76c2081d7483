"""The gates of each route with their settings in effect, for `gateway routes`: what a running gateway would have."""

import asyncio
import dataclasses
import os

from gateway.assembly.gateway import build
from gateway.config.model import GatewayConfig
from gateway.telemetry.log.lines import LineWriter

Gates = dict[str, list[dict[str, object]]]
"""By route, in the order in which a request passes them: `gate` is the name, the rest are its settings."""


def gates_of(config: GatewayConfig) -> Gates:
    """Build a gateway, start nothing, and let its gates describe themselves. Nothing is connected: without a Redis the
    gates are the same."""
    return asyncio.run(_described(dataclasses.replace(config, redis=None)))


async def _described(config: GatewayConfig) -> Gates:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    writer = LineWriter(nowhere)
    try:
        topology = build(config, writer).topology
    finally:
        writer.close()
        os.close(nowhere)
    return {
        route.name: [{"gate": gate.name, **gate.describe()} for gate in route.chain.gates] for route in topology.routes
    }

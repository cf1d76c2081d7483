"""What all exchanges of a gateway share: the loop, the clocks and counters, and who writes things down.

It knows no exchange, so that exchanges and the forwarder can know it: there is no way back from here.
"""

import asyncio
import random
from typing import Final, Protocol

from gateway.proxy.recorder import Recorder
from gateway.proxy.requests.ids import Ids
from gateway.telemetry.tracing.trace import Traces
from gateway.wire.deadlines import Deadlines
from gateway.wire.tunnel import Tunnel

# How late the deadline of an attempt may pass, and the deadline of a tunnel.
_ATTEMPT_SWEEP: Final = 0.05
_TUNNEL_SWEEP: Final = 0.5


class Unattended(Protocol):
    """An exchange that goes on although its client has left."""

    def gateway_stops(self) -> None:
        """There is no more time for it."""
        ...


class Runtime:
    """`exchanges` are in flight, those in `alone` without their clients; `tunnels` are open. With `stopping` every new
    request is refused. At most `retry_buffer_bytes` of a request body are kept for a repetition. With `watched`
    somebody wants to know about the attempts of every exchange."""

    __slots__ = (
        "_tunnel_deadlines",
        "alone",
        "deadlines",
        "exchanges",
        "ids",
        "loop",
        "recorder",
        "retry_buffer_bytes",
        "rng",
        "stopping",
        "traces",
        "tunnels",
        "watched",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        recorder: Recorder,
        ids: Ids,
        rng: random.Random,
        retry_buffer_bytes: int,
        traces: Traces,
        *,
        watched: bool = False,
    ) -> None:
        self.loop = loop
        self.recorder = recorder
        self.ids = ids
        self.rng = rng
        self.traces = traces
        self.watched = watched
        self.retry_buffer_bytes = retry_buffer_bytes
        self.deadlines = Deadlines(loop, _ATTEMPT_SWEEP)
        self.stopping = False
        self.exchanges = 0
        self.alone: set[Unattended] = set()
        self.tunnels: set[Tunnel] = set()
        self._tunnel_deadlines = Deadlines(loop, _TUNNEL_SWEEP)

    def tunnel_opened(self, tunnel: Tunnel) -> None:
        """A tunnel has begun: it counts as open, and its deadline is looked after."""
        self.tunnels.add(tunnel)
        self._tunnel_deadlines.add(tunnel)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """A tunnel is over."""
        self.tunnels.discard(tunnel)
        self._tunnel_deadlines.discard(tunnel)

    def close_tunnels(self) -> None:
        """End every tunnel in order."""
        for tunnel in list(self.tunnels):
            tunnel.close()

    def close(self) -> None:
        """Nothing expires any more."""
        self.deadlines.close()
        self._tunnel_deadlines.close()

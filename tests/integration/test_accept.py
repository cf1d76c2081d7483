"""What a listener has accepted when it closes."""

import asyncio
import socket

import pytest
import uvloop

from gateway.wire.server.accept import FewHandshakes, Listener, accepted_are_known


class Counted(asyncio.Protocol):
    """Counts connections."""

    made = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        Counted.made += 1


@pytest.mark.parametrize("turns", range(8))
def test_after_a_listener_has_closed_no_connection_comes_that_was_not_waited_for(turns: int) -> None:
    async def known_in_time() -> tuple[int, int]:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as keeps, socket.socket() as client:
            keeps.setblocking(False)
            listener = Listener(loop, keeps.dup(), Counted, FewHandshakes(), None, 5.0)
            await listener.start()
            Counted.made = 0
            client.connect(keeps.getsockname())
            for _ in range(turns):
                await asyncio.sleep(0)
            # Its socket was handed on: what is still with the kernel is for the next owner.
            listener.close(take_what_waits=False)
            await accepted_are_known()
            known = Counted.made
            for _ in range(20):
                await asyncio.sleep(0.001)
            return known, Counted.made

    loop = uvloop.new_event_loop()
    try:
        known, later = loop.run_until_complete(known_in_time())
    finally:
        loop.close()
    assert known == later

"""What a listener has accepted when it closes."""

import asyncio
import socket
from collections.abc import Iterator

import pytest
import uvloop

from gateway.wire.kernel import handshakes_under_way
from gateway.wire.server.accept import FewHandshakes, Listener, accepted_are_known
from tests.support.raw_http import RawClient


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


@pytest.fixture
def port_and_listener() -> Iterator[tuple[int, Listener]]:
    """A listener whose socket another process has, too, as the supervisor does. It accepts nothing by itself."""
    loop = uvloop.new_event_loop()
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        elsewhere.setblocking(False)
        Counted.made = 0
        yield elsewhere.getsockname()[1], Listener(loop, elsewhere.dup(), Counted, FewHandshakes(), None, 5.0)
    for _ in range(20):
        loop.run_until_complete(asyncio.sleep(0))
    loop.close()


def test_newcomers_are_refused_at_once_and_handshakes_that_have_begun_complete(
    port_and_listener: tuple[int, Listener],
) -> None:
    port, listener = port_and_listener
    with RawClient(port, late_ack=True) as early:
        listener.begin_no_more()
        assert listener.handshakes_under_way
        with pytest.raises(ConnectionRefusedError):
            RawClient(port)
        early.send(b"x")
        # Another look at the kernel, which the type checker does not know.
        assert not handshakes_under_way(port)
        listener.close(take_what_waits=True)
        assert listener.pending == 1


def test_a_listener_that_has_closed_is_closed_for_every_process_that_has_its_socket(
    port_and_listener: tuple[int, Listener],
) -> None:
    """Else the kernel accepts until the last of them has closed it, and resets what it has accepted."""
    port, listener = port_and_listener
    listener.close(take_what_waits=True)
    with pytest.raises(ConnectionRefusedError):
        RawClient(port, timeout=5.0)

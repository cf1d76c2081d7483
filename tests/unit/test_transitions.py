"""A client connection is in the states, and moves by the events, that its table says."""

import asyncio
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from gateway.wire.message.request import Limits, Request, RequestError
from gateway.wire.ports import Connection, Exchange, Front
from gateway.wire.server.connection import ServerConnection
from gateway.wire.server.registry import Server
from gateway.wire.server.transitions import TRANSITIONS, Event, State
from tests.support.fake_transport import FakeLoop, FakeTransport

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
BODY = b"0123456789"


class Silent:
    """An exchange that takes everything and says nothing; the test answers."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def request_body(self, data: bytes) -> None:
        self.told.append(f"body {data!r}")

    def request_end(self) -> None:
        self.told.append("end")

    def request_failed(self, error: RequestError) -> None:
        self.told.append(error.reason)

    def client_gone(self) -> None:
        self.told.append("client gone")

    def gateway_stops(self) -> None:
        self.told.append("gateway stops")

    def pause_answer(self) -> None:
        self.told.append("pause")

    def resume_answer(self) -> None:
        self.told.append("resume")


class SilentFront(Front):
    """Makes an exchange of each request."""

    def __init__(self) -> None:
        self.exchanges: list[Silent] = []

    def begin(self, connection: Connection, request: Request) -> Exchange | None:
        self.exchanges.append(Silent())
        return self.exchanges[-1]

    def reject(self, connection: Connection, error: RequestError) -> None:
        connection.finish(0.0, keep_alive=False)

    def overflow(self, connection: Connection, request: Request) -> None:
        raise AssertionError("there is room")


class Scene:
    """One connection, what stands behind it, and its transport."""

    def __init__(self, transport: FakeTransport) -> None:
        self.loop = FakeLoop()
        self.front = SilentFront()
        self.server = Server(cast(asyncio.AbstractEventLoop, self.loop), self.front, limits=Limits())
        self.transport = transport
        self.connection = ServerConnection(self.server)
        self.connection.connection_made(transport)

    def state(self) -> State:
        """Where the connection is now."""
        return self.connection.state


@pytest.fixture(params=[True, False], ids=["half-closes", "closes"])
def scene(request: pytest.FixtureRequest) -> Iterator[Scene]:
    """Over a transport that can close one direction, and over one that cannot (TLS)."""
    with FakeTransport(half_closes=request.param) as transport:
        yield Scene(transport)


Step = Callable[[ServerConnection], None]

STEPS: dict[Event, Step] = {
    Event.REQUEST: lambda connection: connection.data_received(GET),
    Event.UPLOAD: lambda connection: connection.data_received(POST),
    Event.UPLOADED: lambda connection: connection.data_received(BODY),
    Event.ANSWERED: lambda connection: connection.finish(0.0, keep_alive=True),
    Event.DRAINED: lambda connection: connection.data_received(BODY),
    Event.CLOSE: lambda connection: connection.finish(0.0, keep_alive=False),
    Event.LEAVE: lambda connection: connection.abort(),
}

WAYS: dict[State, tuple[Event, ...]] = {
    State.HEAD: (),
    State.BODY: (Event.UPLOAD,),
    State.WAIT: (Event.REQUEST,),
    State.DRAIN: (Event.UPLOAD, Event.ANSWERED),
    State.LINGER: (Event.REQUEST, Event.CLOSE),
    State.GONE: (Event.LEAVE,),
}


@pytest.mark.parametrize(
    ("state", "event", "after"),
    [(state, event, after) for state, moves in TRANSITIONS.items() for event, after in moves.items()],
)
def test_each_event_of_the_table_moves_the_connection(scene: Scene, state: State, event: Event, after: State) -> None:
    connection = scene.connection
    for each in WAYS[state]:
        STEPS[each](connection)
    assert connection.state is state
    STEPS[event](connection)
    assert connection.state is after
    assert repr(connection) == f"<ServerConnection 192.0.2.1 {after.value}>"


OUTSIDE = (Event.REQUEST, Event.UPLOAD, Event.LEAVE)


@pytest.mark.parametrize("state", [State.WAIT, State.LINGER, State.GONE])
@pytest.mark.parametrize("event", OUTSIDE)
def test_what_comes_from_outside_in_another_state_moves_nothing(scene: Scene, state: State, event: Event) -> None:
    """A client sends when it likes: what a state does not wait for is held, or thrown away."""
    for each in WAYS[state]:
        STEPS[each](scene.connection)
    STEPS[event](scene.connection)
    assert scene.connection.state is TRANSITIONS[state].get(event, state)


def test_every_state_is_reached_and_only_gone_is_final() -> None:
    reached = {State.HEAD}
    for _ in State:
        reached |= {after for state in reached for after in TRANSITIONS[state].values()}
    assert reached == set(State) == set(TRANSITIONS)
    assert [state for state, moves in TRANSITIONS.items() if not moves] == [State.GONE]


def test_the_rest_of_a_body_that_nobody_wants_is_skipped_and_the_next_request_served(scene: Scene) -> None:
    connection = scene.connection
    connection.data_received(POST + BODY[:4])
    connection.finish(0.0, keep_alive=connection.reusable)
    assert scene.state() is State.DRAIN
    connection.data_received(BODY[4:] + GET)
    assert scene.state() is State.HEAD
    scene.loop.turn()
    assert (scene.state(), len(scene.front.exchanges)) == (State.WAIT, 2)


def test_after_the_last_answer_our_direction_closes_first(scene: Scene) -> None:
    """An orderly close while the client is still sending would be a reset, which may overtake the answer."""
    scene.connection.data_received(POST)
    scene.connection.finish(0.0, keep_alive=False)
    assert scene.transport.calls == ["write_eof" if scene.transport.half_closes else "close"]
    scene.connection.data_received(bytes(1 << 20))
    assert scene.state() is State.LINGER
    for _ in range(4):
        scene.connection.data_received(bytes(1 << 20))
    assert (scene.state(), "pause_reading" in scene.transport.calls) == (State.LINGER, True)
    scene.connection.expire(scene.connection.deadline)
    assert scene.state() is State.GONE


@pytest.mark.parametrize("keep_alive", [False, True], ids=["linger", "drain"])
def test_an_answer_that_is_not_taken_yet_outlives_an_upload_that_nobody_wants(scene: Scene, keep_alive: bool) -> None:
    """A socket that is closed while bytes are unread loses what its kernel has not sent."""
    connection = scene.connection
    connection.data_received(POST)
    scene.transport.buffered = 1
    connection.finish(0.0, keep_alive=keep_alive)
    state = scene.state()
    for _ in range(0 if keep_alive else 9):
        connection.data_received(bytes(1 << 20))
    assert scene.transport.calls.count("resume_reading") >= scene.transport.calls.count("pause_reading") - 1
    connection.expire(connection.deadline)
    assert scene.state() is state
    scene.transport.buffered = 0
    connection.expire(connection.deadline)
    assert scene.state() is State.GONE


def test_an_exchange_is_told_once_that_its_client_has_gone(scene: Scene) -> None:
    scene.connection.data_received(GET)
    scene.connection.connection_lost(None)
    scene.connection.abort()
    assert scene.front.exchanges[0].told == ["client gone"]
    assert (scene.server.empty, len(scene.server.deadlines)) == (True, 0)


def test_a_request_that_comes_early_waits_for_its_turn(scene: Scene) -> None:
    connection = scene.connection
    connection.data_received(GET + GET)
    assert len(scene.front.exchanges) == 1
    connection.answer(b"one", 0.0, connection.reusable)
    assert scene.state() is State.HEAD
    scene.loop.turn()
    assert (scene.state(), len(scene.front.exchanges)) == (State.WAIT, 2)
    assert scene.transport.written == b"one"

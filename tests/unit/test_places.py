"""The places of client connections: who gets one, who gives way, who waits."""

from dataclasses import dataclass, field

from gateway.wire.ports import Connection
from gateway.wire.server.places import Places


@dataclass
class Clock:
    now: float = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass(eq=False)
class Occupant(Connection):
    """A connection as the places see it."""

    places: Places
    quiet_since: float | None = None
    spoken: bool = True
    unread: bool = False
    aborted: bool = field(default=False)

    def abort(self) -> None:
        self.aborted = True
        self.places.leave(self)
        self.places.leave_handshake(self)

    def enter(self) -> bool:
        return self.places.enter(self)

    def enter_handshake(self) -> None:
        self.places.enter_handshake(self)


def full(clock: Clock, *quiet_since: float | None, limit: int = 0) -> tuple[Places, list[Occupant]]:
    places = Places(limit or len(quiet_since), reserve_limit=2, clock=clock)
    occupants = [Occupant(places, since) for since in quiet_since]
    assert [each.enter() for each in occupants] == [True] * len(occupants)
    return places, occupants


def test_while_places_are_free_nobody_gives_way() -> None:
    places, (idle,) = full(Clock(), 0.0, limit=2)
    assert Occupant(places).enter()
    assert (idle.aborted, len(places), places.evicted) == (False, 2, 0)


def test_the_longest_idle_gives_way() -> None:
    places, occupants = full(Clock(), 50.0, 10.0, None, 90.0)
    assert Occupant(places).enter()
    assert [each.aborted for each in occupants] == [False, True, False, False]
    assert Occupant(places).enter()
    assert [each.aborted for each in occupants] == [True, True, False, False]
    assert (len(places), places.evicted) == (4, 2)


def test_whoever_has_said_nothing_for_a_second_goes_first() -> None:
    places, (idle, silent) = full(Clock(), 10.0, 98.9)
    silent.spoken = False
    assert Occupant(places).enter()
    assert (idle.aborted, silent.aborted) == (False, True)


def test_a_handshake_that_does_not_end_gives_way() -> None:
    clock = Clock()
    places = Places(1, clock=clock)
    handshake = Occupant(places, clock.now, spoken=False)
    handshake.enter_handshake()
    assert not Occupant(places).enter()
    clock.now += 1.0
    assert Occupant(places).enter()
    assert handshake.aborted


def test_a_request_in_flight_or_on_its_way_never_gives_way() -> None:
    clock = Clock()
    places, occupants = full(clock, None, 10.0, clock.now - 0.01)
    occupants[1].unread = True
    waiting = Occupant(places)
    assert not waiting.enter()
    assert not any(each.aborted for each in occupants)
    assert (len(places), list(places.reserve)) == (3, [waiting])


def test_one_that_has_become_busy_since_the_look_does_not() -> None:
    clock = Clock()
    places, occupants = full(clock, 10.0, 20.0, 30.0)
    assert Occupant(places).enter()
    occupants[1].quiet_since = None
    assert Occupant(places).enter()
    assert [each.aborted for each in occupants] == [True, False, True]


def test_after_a_look_in_vain_there_is_a_pause() -> None:
    clock = Clock()
    places, (busy,) = full(clock, None)
    assert not Occupant(places).enter()
    busy.quiet_since = 10.0
    assert not Occupant(places).enter()
    clock.now += 0.1
    assert Occupant(places).enter()


def test_a_full_reserve_drops_its_oldest() -> None:
    places, _ = full(Clock(), None)
    waiting = [Occupant(places) for _ in range(3)]
    assert [each.enter() for each in waiting] == [False] * 3
    assert [each.aborted for each in waiting] == [True, False, False]
    assert list(places.reserve) == waiting[1:]


def test_the_reserve_gets_places_that_become_free() -> None:
    places, (busy,) = full(Clock(), None)
    waiting = Occupant(places)
    assert not waiting.enter()
    assert not places.promote(waiting)
    busy.abort()
    assert places.promote(waiting)
    assert (len(places), len(places.reserve)) == (1, 0)


def test_connections_that_another_protocol_serves_keep_their_place() -> None:
    elsewhere = [0]
    places = Places(1, elsewhere=lambda: elsewhere[0], clock=Clock())
    elsewhere[0] = 1
    assert not Occupant(places).enter()

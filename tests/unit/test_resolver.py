import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from gateway.wire.client.resolver import DEAD_TIME, GONE_TTLS, PATIENCE, ResolveError, Resolver


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class NameServer:
    """Answers with `answer`, or raises it; while `gate` is cleared it keeps everybody waiting."""

    def __init__(self, *addresses: str) -> None:
        self.answer: Sequence[str] | Exception = addresses
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    async def __call__(self, host: str, port: int, *, type: int) -> list[tuple[Any, ...]]:  # noqa: A002
        assert type == socket.SOCK_STREAM
        self.asked += 1
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return [
            (socket.AF_INET6, type, 6, "", (address, port, 0, 0))
            if ":" in address
            else (socket.AF_INET, type, 6, "", (address, port))
            for address in self.answer
        ]


async def turn() -> None:
    """Let everything that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def first_hosts(resolver: Resolver, count: int) -> list[str]:
    return [(await resolver.resolve("a", 80))[0][0] for _ in range(count)]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", ("127.0.0.1", 80)),
        ("::1", ("::1", 80, 0, 0)),
        ("2001:db8::7", ("2001:db8::7", 80, 0, 0)),
    ],
)
async def test_ip_literals_need_no_lookup_and_never_expire(host: str, address: tuple[Any, ...]) -> None:
    server, clock = NameServer(), Clock()
    resolver = Resolver(5.0, clock, server)
    assert resolver.is_fresh(host, 80)
    assert await resolver.resolve(host, 80) == (address,)
    clock.now += 1e9
    assert await resolver.resolve(host, 80) == (address,)
    assert server.asked == 0


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "1.2.3.4.5", "::g", "a\x00b", "[::1]"])
async def test_anything_else_is_a_name(host: str) -> None:
    server = NameServer("10.0.0.1")
    assert not Resolver(5.0, Clock(), server).is_fresh(host, 80)


async def test_an_answer_is_fresh_for_its_ttl() -> None:
    server, clock = NameServer("10.0.0.1"), Clock()
    resolver = Resolver(5.0, clock, server)
    assert not resolver.is_fresh("a", 80)
    assert await resolver.resolve("a", 80) == (("10.0.0.1", 80),)
    server.answer = ["10.0.0.2"]
    clock.now += 4.99
    assert resolver.is_fresh("a", 80)
    assert await resolver.resolve("a", 80) == (("10.0.0.1", 80),)
    assert server.asked == 1
    clock.now += 0.01
    assert not resolver.is_fresh("a", 80)
    assert await resolver.resolve("a", 80) == (("10.0.0.2", 80),)
    assert resolver.is_fresh("a", 80)
    assert await resolver.resolve("a", 80) == (("10.0.0.2", 80),)
    assert not resolver.is_fresh("a", 81)


async def test_many_wait_for_one_lookup_and_a_cancelled_one_spoils_nothing() -> None:
    server = NameServer("10.0.0.1")
    server.gate.clear()
    resolver = Resolver(5.0, Clock(), server)
    waiting = [asyncio.create_task(resolver.resolve("a", 80)) for _ in range(10)]
    await turn()
    waiting[0].cancel()
    await turn()
    server.gate.set()
    answers = await asyncio.gather(*waiting[1:])
    assert set(answers) == {(("10.0.0.1", 80),)}
    assert waiting[0].cancelled()
    assert server.asked == 1


async def test_an_old_answer_serves_while_the_name_server_fails() -> None:
    server, clock = NameServer("10.0.0.1"), Clock()
    resolver = Resolver(5.0, clock, server, stale=3600.0)
    begun = clock.now
    await resolver.resolve("a", 80)
    server.answer = socket.gaierror(socket.EAI_AGAIN, "no")
    clock.now += 6.0
    assert await resolver.resolve("a", 80) == (("10.0.0.1", 80),)
    assert await resolver.resolve("a", 80) == (("10.0.0.1", 80),)
    assert server.asked == 2, "a failure is not asked for again at once"
    clock.now += 1.0
    await resolver.resolve("a", 80)
    assert server.asked == 3
    clock.now = begun + 3600.0 - 0.01
    assert await resolver.resolve("a", 80) == (("10.0.0.1", 80),)
    clock.now = begun + 3600.0 + 1.0
    with pytest.raises(ResolveError):
        await resolver.resolve("a", 80)
    server.answer = ["10.0.0.2"]
    clock.now += 1.0
    assert await resolver.resolve("a", 80) == (("10.0.0.2", 80),)


async def test_nobody_with_an_old_answer_waits_long_for_a_hanging_name_server() -> None:
    server, clock = NameServer("10.0.0.1"), Clock()
    resolver = Resolver(5.0, clock, server)
    await resolver.resolve("a", 80)
    server.answer = ["10.0.0.2"]
    server.gate.clear()
    clock.now += 6.0
    started = asyncio.get_running_loop().time()
    assert await resolver.resolve("a", 80) == (("10.0.0.1", 80),)
    assert asyncio.get_running_loop().time() - started >= PATIENCE * 0.9
    clock.now += PATIENCE
    late = asyncio.create_task(resolver.resolve("a", 80))
    await turn()
    assert late.done(), "the patience is with the lookup, not with each who waits"
    assert server.asked == 2
    server.gate.set()
    await turn()
    assert resolver.is_fresh("a", 80)
    assert await resolver.resolve("a", 80) == (("10.0.0.2", 80),)


async def test_a_failure_without_an_old_answer_is_told_and_remembered_for_a_second() -> None:
    server, clock = NameServer(), Clock()
    cause = server.answer = socket.gaierror(socket.EAI_NONAME, "unknown name")
    resolver = Resolver(60.0, clock, server)
    for _ in range(3):
        with pytest.raises(ResolveError, match=r"a: .*unknown name") as caught:
            await resolver.resolve("a", 80)
        assert caught.value.__cause__ is cause
    assert server.asked == 1
    assert isinstance(caught.value, socket.gaierror)
    clock.now += 1.0
    server.answer = ["10.0.0.1"]
    assert await resolver.resolve("a", 80) == (("10.0.0.1", 80),)


async def test_an_empty_answer_is_a_failure() -> None:
    with pytest.raises(ResolveError):
        await Resolver(5.0, Clock(), NameServer()).resolve("a", 80)


async def test_a_name_that_cannot_be_one_is_a_failure() -> None:
    resolver = Resolver(5.0)
    for host in ("a" * 70 + ".example", "a\x00b"):
        with pytest.raises(ResolveError):
            await resolver.resolve(host, 80)


async def test_families_alternate_from_the_preferred_one_and_each_takes_turns() -> None:
    server = NameServer("fd00::1", "fd00::2", "fd00::2", "10.0.0.1", "10.0.0.2", "10.0.0.3")
    resolver = Resolver(5.0, Clock(), server)
    hosts = [address[0] for address in await resolver.resolve("a", 80)]
    assert hosts == ["fd00::1", "10.0.0.1", "fd00::2", "10.0.0.2", "10.0.0.3"]
    hosts = [address[0] for address in await resolver.resolve("a", 80)]
    assert hosts == ["fd00::2", "10.0.0.2", "fd00::1", "10.0.0.3", "10.0.0.1"]


async def test_connections_spread_over_the_addresses_of_a_name() -> None:
    resolver = Resolver(5.0, Clock(), NameServer("10.0.0.1", "10.0.0.2", "10.0.0.3"))
    assert await first_hosts(resolver, 6) == ["10.0.0.1", "10.0.0.2", "10.0.0.3"] * 2


async def test_only_who_connects_takes_a_turn() -> None:
    resolver = Resolver(5.0, Clock(), NameServer("10.0.0.1", "10.0.0.2"))
    for expected in ["10.0.0.1", "10.0.0.2"] * 2:
        assert await resolver.hosts("a", 80) == {"10.0.0.1", "10.0.0.2"}
        assert resolver.is_fresh("a", 80)
        assert await first_hosts(resolver, 1) == [expected]


async def test_ttl_zero_asks_every_time() -> None:
    server = NameServer("10.0.0.1")
    resolver = Resolver(0.0, Clock(), server)
    assert await first_hosts(resolver, 3) == ["10.0.0.1"] * 3
    assert server.asked == 3
    server.answer = OSError("down")
    assert await first_hosts(resolver, 1) == ["10.0.0.1"], "the last answer is old, and there is no better one"


async def test_without_stale_nothing_old_is_used() -> None:
    server = NameServer("10.0.0.1")
    resolver = Resolver(0.0, Clock(), server, stale=0.0)
    await resolver.resolve("a", 80)
    server.answer = OSError("down")
    with pytest.raises(ResolveError):
        await resolver.resolve("a", 80)


@pytest.mark.parametrize("answer", [socket.gaierror(socket.EAI_NONAME, "unknown name"), []])
async def test_a_name_that_is_gone_is_believed_for_a_shorter_time(answer: Any) -> None:
    server, clock = NameServer("10.0.0.1"), Clock()
    resolver = Resolver(5.0, clock, server, stale=3600.0)
    await resolver.resolve("a", 80)
    server.answer = answer
    clock.now += 6.0
    assert await resolver.resolve("a", 80) == (("10.0.0.1", 80),), "a platform may have none for a moment"
    clock.now += 5.0 * GONE_TTLS
    with pytest.raises(ResolveError):
        await resolver.resolve("a", 80)


async def test_two_who_use_a_name_get_what_the_stricter_wants() -> None:
    server, clock = NameServer("10.0.0.1"), Clock()
    resolver = Resolver(5.0, clock, server)
    resolver.expect("a", 80, ttl=100.0, stale=3600.0)
    await resolver.resolve("a", 80)
    clock.now += 50.0
    assert resolver.is_fresh("a", 80)
    resolver.expect("a", 80, ttl=2.0, stale=7200.0)
    clock.now += 60.0
    await resolver.resolve("a", 80)
    clock.now += 3.0
    assert not resolver.is_fresh("a", 80)


async def test_observers_are_told_of_old_addresses_in_use(caplog: pytest.LogCaptureFixture) -> None:
    server, clock = NameServer("10.0.0.1"), Clock()
    caplog.set_level("INFO", "gateway.resolver")
    resolver = Resolver(5.0, clock, server)
    await resolver.resolve("10.0.0.9", 80)
    await resolver.resolve("a", 80)
    assert list(resolver.names()) == [("a", 0.0, 1, 0)]
    server.answer = socket.gaierror(socket.EAI_AGAIN, "no")
    clock.now += 15.0
    await resolver.resolve("a", 80)
    assert list(resolver.names()) == [("a", 10.0, 1, 1)]
    clock.now += 15.0
    await resolver.resolve("a", 80)
    server.answer = ["10.0.0.2"]
    clock.now += 1.0
    await resolver.resolve("a", 80)
    assert list(resolver.names()) == [("a", 0.0, 2, 2)]
    (away, back) = (record.getMessage() for record in caplog.records)
    assert away.startswith("a cannot be looked up")
    assert "its last addresses go on being used" in away
    assert back == "a can be looked up again"


async def test_a_dead_address_is_tried_last_for_a_while() -> None:
    clock = Clock()
    resolver = Resolver(3600.0, clock, NameServer("fd00::1", "10.0.0.1", "10.0.0.2"))
    await resolver.resolve("a", 80)
    dead = ("fd00::1", 80, 0, 0)
    resolver.note(dead, False)
    assert {(await resolver.resolve("a", 80))[-1] for _ in range(3)} == {dead}
    clock.now += DEAD_TIME
    assert (await resolver.resolve("a", 80))[0] == dead
    resolver.note(dead, False)
    clock.now += DEAD_TIME
    assert (await resolver.resolve("a", 80))[-1] == dead, "twice as long the second time"
    resolver.note(dead, True)
    assert (await resolver.resolve("a", 80))[0] == dead


async def test_where_all_are_dead_all_are_tried() -> None:
    resolver = Resolver(3600.0, Clock(), NameServer("10.0.0.1", "10.0.0.2"))
    for address in await resolver.resolve("a", 80):
        resolver.note(address, False)
    assert await first_hosts(resolver, 4) == ["10.0.0.2", "10.0.0.1"] * 2


async def test_the_system_s_own_resolver() -> None:
    addresses = await Resolver(5.0).resolve("localhost", 80)
    assert {address[0] for address in addresses} <= {"127.0.0.1", "::1"}

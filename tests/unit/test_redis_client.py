"""The Redis client against real servers, single, behind a sentinel and as a cluster, and against none."""

import asyncio
import hashlib
import re
import socket
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gateway.config.sections.redis.model import RedisConfig
from gateway.policy.lease.ask import Ask
from gateway.policy.token_bucket import RateLimitPolicy
from gateway.store.port import StoreUnavailable
from gateway.store.redis import RedisStore
from gateway.store.redis.client import MAX_CONNECTIONS, RedisClient, Script, _is_stale, script
from tests.support.certificates import require_openssl
from tests.support.ports import free_port, is_listening
from tests.support.processes import ChildProcess
from tests.support.redis_server import RedisServer
from tests.support.slow_proxy import SlowProxy
from tests.support.waiting import Stopwatch

TIMEOUT = 0.05
SLACK = 0.4  # for a busy machine; what is not bounded takes a second or for ever
PATIENT = 30.0


def sha(text: str, name: str = "test") -> Script:
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


ECHO = sha("return {KEYS[1], ARGV[1]}", "echo")
SET = sha("return redis.call('SET', KEYS[1], ARGV[1])", "set")

# What a busy machine may make of every opening.
TOO_LATE = "a connection to Redis did not come about within 1000 ms"

Connect = Callable[..., RedisClient]


@pytest.fixture
async def connect() -> AsyncIterator[Connect]:
    clients: list[RedisClient] = []

    def make(config: RedisConfig, **more: Any) -> RedisClient:
        clients.append(RedisClient(config, **more))
        return clients[-1]

    yield make
    for client in clients:
        await client.close()


def single(server: RedisServer, timeout: float = PATIENT) -> RedisConfig:
    return RedisConfig("single", ((server.host, server.port),), password=server.password, timeout=timeout)


async def refusal(client: RedisClient, script: Script = ECHO) -> tuple[str, float]:
    """What the call said, and how long it took to say it."""
    with Stopwatch() as watch:
        with pytest.raises(StoreUnavailable) as caught:
            await client.run(script, ["k"], ["v"])
        assert caught.value.__cause__ is not None
        return str(caught.value), watch.seconds


def test_scripts_are_files_of_the_package() -> None:
    take = script("take")
    assert take.name == "take"
    assert "KEYS" in take.text
    assert take is script("take")
    assert len(take.sha) == 40


async def test_runs_scripts_the_server_does_not_know_yet(connect: Connect, redis: RedisServer) -> None:
    seen: list[tuple[str, float]] = []
    client = connect(single(redis), observe=lambda command, seconds: seen.append((command, seconds)))
    for _ in range(2):
        assert await client.run(ECHO, ["k"], ["v"]) == [b"k", b"v"]
    redis.execute("SCRIPT", "FLUSH")
    assert await client.run_many(ECHO, [(["a"], [1]), (["b"], [2.5])]) == [[b"a", b"1"], [b"b", b"2.5"]]
    assert await client.run_many(ECHO, []) == []
    assert [command for command, _ in seen] == ["echo"] * 4
    assert all(0 < seconds < PATIENT for _, seconds in seen)


async def test_one_failing_answer_of_many_fails_the_call(connect: Connect, redis: RedisServer) -> None:
    redis.execute("RPUSH", "list", "x")
    client = connect(single(redis))
    append = sha("return redis.call('APPEND', KEYS[1], ARGV[1])")
    with pytest.raises(StoreUnavailable, match="WRONGTYPE"):
        await client.run_many(append, [(["fine"], ["v"]), (["list"], ["v"])])
    assert await client.run(ECHO, ["k"], ["v"]) == [b"k", b"v"]


async def test_a_connection_that_the_server_has_closed_meanwhile_costs_no_call(
    connect: Connect, own_redis: RedisServer
) -> None:
    client = connect(single(own_redis))
    assert await client.run(ECHO, ["k"], ["v"]) == [b"k", b"v"]
    kept = client._kept
    assert kept is not None
    own_redis.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    async with asyncio.timeout(PATIENT):
        while not await _is_stale(kept):
            await asyncio.sleep(0)
    assert await client.run(ECHO, ["k"], ["v"]) == [b"k", b"v"]


async def test_calls_one_after_the_other_share_a_connection(connect: Connect, own_redis: RedisServer) -> None:
    client = connect(single(own_redis))
    for _ in range(10):
        await client.run(ECHO, ["k"], ["v"])
        await client.run_many(ECHO, [(["a"], [1])])
    assert len(own_redis.execute("CLIENT", "LIST").splitlines()) <= 3  # one is that of this question


async def test_many_calls_at_once_wait_for_a_connection(connect: Connect, redis: RedisServer) -> None:
    client = connect(single(redis))
    answers = await asyncio.gather(*(client.run(ECHO, [str(i)], ["v"]) for i in range(300)))
    assert [answer[0] for answer in answers] == [str(i).encode() for i in range(300)]


async def test_nobody_listens(connect: Connect) -> None:
    client = connect(RedisConfig("single", (("127.0.0.1", free_port()),), timeout=TIMEOUT, password="s3cret"))
    said, took = await refusal(client)
    assert said == "Redis cannot be used (ConnectionError)"
    assert took < TIMEOUT + SLACK


async def test_an_opening_that_takes_too_long_is_told_with_its_own_time_limit(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(RedisConfig("single", (silent.getsockname(),), timeout=PATIENT))
        said, _ = await refusal(client)
    assert said == TOO_LATE


async def test_a_call_that_waits_for_the_opening_fails_when_the_client_is_closed(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(RedisConfig("single", (silent.getsockname(),), timeout=PATIENT))
        call = asyncio.create_task(client.run(ECHO, ["k"], ["v"]))
        await asyncio.sleep(0)
        await client.close()
        with pytest.raises(StoreUnavailable):
            await call


async def test_a_call_that_waited_for_its_turn_uses_the_client_of_now(connect: Connect, redis: RedisServer) -> None:
    """The one that was there when it began to wait may have been thrown away: a connection of it would stay open."""
    client = connect(single(redis))
    await client.run(ECHO, ["k"], ["v"])
    for _ in range(MAX_CONNECTIONS):
        await client._slots.acquire()
    call = asyncio.create_task(client.run(ECHO, ["k"], ["v"]))
    await asyncio.sleep(0)
    client._discard()
    for _ in range(MAX_CONNECTIONS):
        client._slots.release()
    assert await call == [b"k", b"v"]
    await client.close()
    assert redis.execute("CLIENT", "LIST").count("cmd=evalsha") == 0


@pytest.mark.parametrize("mode", ["single", "sentinel", "cluster"])
async def test_a_server_that_never_answers(connect: Connect, mode: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect(RedisConfig(mode, (silent.getsockname(),), timeout=TIMEOUT, password="s3cret"))
        for _ in range(3):
            said, took = await refusal(client)
            # The latter when the machine stood still for as long as opening may take.
            assert said in {"Redis did not answer within 50 ms", "Redis cannot be used (RedisClusterException)"}
            assert took < TIMEOUT + SLACK
        await client.close()


async def test_a_server_that_talks_nonsense(connect: Connect) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        client = connect(RedisConfig("single", (server.sockets[0].getsockname(),), timeout=TIMEOUT))
        _, took = await refusal(client)
        assert took < TIMEOUT + SLACK
        await client.close()


async def test_a_name_that_does_not_resolve_in_time_blocks_nothing(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resolver is the machine's, and here it hangs. One lookup is under way at a time."""
    hanging = threading.Event()
    lookups: list[str] = []

    def hang(host: str, *_: Any, **__: Any) -> Any:
        lookups.append(host)
        hanging.wait(10)
        raise socket.gaierror("no such host")

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    client = connect(RedisConfig("single", (("redis.invalid", 6379),), timeout=TIMEOUT))
    for _ in range(4):
        _, took = await refusal(client)
        assert took < TIMEOUT + SLACK
    assert lookups == ["redis.invalid"]
    hanging.set()


async def test_a_wrong_password_is_said_without_the_password(connect: Connect, tmp_path: Path) -> None:
    with RedisServer(tmp_path, password="right") as server:
        client = connect(replace(single(server), password="wr0ng-secret"))
        said, _ = await refusal(client)
        assert "secret" not in said
        assert "127.0.0.1" not in said
        good = connect(single(server))
        assert await good.run(ECHO, ["k"], ["v"]) == [b"k", b"v"]


async def test_a_server_that_may_not_be_written_to(connect: Connect, own_redis: RedisServer) -> None:
    client = connect(single(own_redis))
    await client.run(SET, ["k"], ["v"])
    own_redis.execute("REPLICAOF", "127.0.0.1", free_port())
    said, _ = await refusal(client, SET)
    assert said == "Redis refused the command (ReadOnlyError)"
    own_redis.execute("REPLICAOF", "NO", "ONE")
    assert await client.run(SET, ["k"], ["v"]) == b"OK"


async def test_a_demoted_server_is_left_even_if_it_refuses_the_opening(
    connect: Connect, own_redis: RedisServer, redis: RedisServer
) -> None:
    """Such a server answers PING with MASTERDOWN, over the same connection for ever. The name means another by now."""
    own_redis.execute("CONFIG", "SET", "replica-serve-stale-data", "no")
    own_redis.execute("REPLICAOF", "127.0.0.1", free_port())
    async with SlowProxy((own_redis.host, own_redis.port)) as name:
        client = connect(RedisConfig("single", (("127.0.0.1", name.port),), timeout=PATIENT))
        said, _ = await refusal(client)
        assert said == "Redis refused the command (MasterDownError)"
        name.target = (redis.host, redis.port)
        await answers_again(client)


async def test_a_server_that_is_full(connect: Connect, own_redis: RedisServer) -> None:
    client = connect(single(own_redis))
    own_redis.execute("CONFIG", "SET", "maxmemory", "1")
    said, _ = await refusal(client, SET)
    assert said == "Redis refused the command (OutOfMemoryError)"


async def test_a_paused_server_is_left_and_found_again(connect: Connect, own_redis: RedisServer) -> None:
    client = connect(single(own_redis, TIMEOUT))
    await answers_again(client)
    own_redis.pause()
    for _ in range(3):
        said, took = await refusal(client)
        assert re.fullmatch(r"Redis did not answer within \d+ ms", said)  # on a slow machine the limit has grown
        assert took < TIMEOUT + SLACK
    own_redis.resume()
    await answers_again(client)


async def test_a_restarted_server_is_found_again(connect: Connect, own_redis: RedisServer) -> None:
    client = connect(single(own_redis))
    await client.run(ECHO, ["k"], ["v"])
    own_redis.restart()
    await answers_again(client)


async def test_a_cancelled_call_harms_no_other(connect: Connect, own_redis: RedisServer) -> None:
    client = connect(single(own_redis))
    await client.run(ECHO, ["k"], ["v"])
    own_redis.pause()
    call = asyncio.ensure_future(client.run(ECHO, ["left"], ["v"]))
    other = asyncio.ensure_future(client.run(ECHO, ["stays"], ["v"]))
    await asyncio.sleep(0.02)
    call.cancel()
    await asyncio.wait([call])
    own_redis.resume()
    assert await other == [b"stays", b"v"]
    assert await client.run(ECHO, ["next"], ["v"]) == [b"next", b"v"]


async def test_a_loop_that_stood_still_does_not_blame_the_server(connect: Connect, own_redis: RedisServer) -> None:
    client = connect(single(own_redis, TIMEOUT))
    await answers_again(client)
    own_redis.pause()
    call = asyncio.ensure_future(client.run(ECHO, ["k"], ["v"]))
    await asyncio.sleep(TIMEOUT / 5)
    own_redis.resume()
    time.sleep(TIMEOUT * 2)  # noqa: ASYNC251 - the answer arrives while nothing runs here
    assert await call == [b"k", b"v"]


async def test_a_closed_client_says_so(redis: RedisServer) -> None:
    client = RedisClient(single(redis))
    await client.run(ECHO, ["k"], ["v"])
    await client.close()
    await client.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await client.run(ECHO, ["k"], ["v"])
    assert len(asyncio.all_tasks()) == 1


async def test_closing_while_opening(own_redis: RedisServer) -> None:
    own_redis.pause()
    client = RedisClient(single(own_redis, TIMEOUT))
    await refusal(client)
    await client.close()
    assert len(asyncio.all_tasks()) == 1


async def answers_again(client: RedisClient) -> None:
    """As the sync loop asks."""
    for _ in range(400):
        try:
            assert await client.run(ECHO, ["k"], ["v"]) == [b"k", b"v"]
        except StoreUnavailable:
            await asyncio.sleep(0.05)
        else:
            return
    pytest.fail("Redis was not found again")


@pytest.fixture
def cluster(redis_installed: None, tmp_path: Path) -> Iterator[tuple[RedisServer, RedisServer]]:
    """Two nodes, half of the slots each."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-port")
    bus = str(free_port())
    with (
        RedisServer(tmp_path / "one", *options, str(free_port())) as one,
        RedisServer(tmp_path / "two", *options, bus) as two,
    ):
        one.execute("CLUSTER", "ADDSLOTSRANGE", 0, 8191)
        two.execute("CLUSTER", "ADDSLOTSRANGE", 8192, 16383)
        one.execute("CLUSTER", "MEET", two.host, two.port, bus)
        deadline = time.monotonic() + 10
        for node in (one, two):
            while "cluster_state:ok" not in str(node.execute("CLUSTER", "INFO")):
                assert time.monotonic() < deadline, "the cluster does not form"
                time.sleep(0.05)
        yield one, two


async def test_on_a_cluster_many_keys_go_to_their_nodes(
    connect: Connect, cluster: tuple[RedisServer, RedisServer]
) -> None:
    addresses = tuple((node.host, node.port) for node in cluster)
    client = connect(RedisConfig("cluster", addresses, timeout=PATIENT))
    assert client.clustered
    calls = [([f"k{i}"], [i]) for i in range(40)]
    expected = [[f"k{i}".encode(), str(i).encode()] for i in range(40)]
    assert await client.run_many(ECHO, calls) == expected
    assert await client.run_many(ECHO, calls) == expected
    assert await client.run(ECHO, ["k"], ["v"]) == [b"k", b"v"]
    assert all("evalsha" in str(node.execute("INFO", "commandstats")) for node in cluster)

    store = RedisStore(RedisConfig("cluster", addresses, timeout=PATIENT), "a")
    policy = RateLimitPolicy("default", 5, 0.001)
    grants = await store.take([Ask(policy, f"client-{i}", 7) for i in range(30)])
    assert [grant.granted for grant in grants] == [5] * 30
    await store.close()

    cluster[1].kill()
    started = time.monotonic()
    with pytest.raises(StoreUnavailable):
        await client.run_many(ECHO, calls)
    assert time.monotonic() - started < PATIENT + SLACK


@pytest.fixture
def sentinel(own_redis: RedisServer, tmp_path: Path) -> Iterator[int]:
    """The port of a sentinel that watches `own_redis` under the name "shop"."""
    port = free_port()
    config = tmp_path / "sentinel.conf"
    watch = f"sentinel monitor shop 127.0.0.1 {own_redis.port} 1"
    config.write_text(f"port {port}\nbind 127.0.0.1\ndir {tmp_path}\n{watch}\n")
    with ChildProcess("sentinel", ["redis-server", str(config), "--sentinel"]) as process:
        process.wait_until(lambda: is_listening(port), "listening")
        yield port


async def test_behind_a_sentinel_the_master_is_found_and_found_again(
    connect: Connect, own_redis: RedisServer, sentinel: int
) -> None:
    dead, alive = ("127.0.0.1", free_port()), ("127.0.0.1", sentinel)
    client = connect(RedisConfig("sentinel", (dead, alive), master_name="shop", timeout=PATIENT))
    await answers_again(client)
    assert await client.run_many(SET, [(["a"], [1]), (["b"], [2])]) == [b"OK", b"OK"]
    own_redis.restart()
    await answers_again(client)
    unknown = connect(RedisConfig("sentinel", (alive,), master_name="nobody", timeout=PATIENT))
    said, _ = await refusal(unknown)
    assert said == "Redis cannot be used (MasterNotFoundError)"


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """A certificate for localhost that is its own authority."""
    require_openssl()
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", "key.pem", "-out", "cert.pem"),
        ],
        cwd=tmp_path,
        check=True,
        capture_output=True,
    )
    return tmp_path


async def test_tls_is_verified(connect: Connect, redis_installed: None, certificates: Path) -> None:
    port = free_port()
    tls = ("--tls-port", str(port), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", str(certificates / "cert.pem"), "--tls-key-file", str(certificates / "key.pem"))
    with RedisServer(certificates, *tls, *files):
        config = RedisConfig("single", (("localhost", port),), tls=True, timeout=PATIENT)
        trusted = connect(replace(config, tls_ca_file=str(certificates / "cert.pem")))
        await answers_again(trusted)
        wrong_name = replace(config, tls_ca_file=str(certificates / "cert.pem"), addresses=(("127.0.0.1", port),))
        for distrusted in (config, wrong_name):
            while (said := (await refusal(connect(distrusted)))[0]) in {TOO_LATE, "Redis did not answer in time"}:
                pass
            assert said == "Redis cannot be used (ConnectionError)"
        await answers_again(connect(replace(wrong_name, tls_ca_file=None, tls_verify=False)))

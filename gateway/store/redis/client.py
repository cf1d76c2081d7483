"""Redis, bounded and translated: a call ends within its time limit, with an answer or `StoreUnavailable`.

Three bounds, for three different things. A *call* (waiting for a connection, sending, the reply) has `time_limit`,
which follows what Redis usually takes, between `config.timeout` and `config.timeout_max` (see
`gateway.policy.time_limit`). A *patient* call has `PATIENCE`: its caller goes on without the answer after `time_limit`,
but what the answer says is worth having later, and ending the call would cost the connection. *Opening* (DNS,
connecting, TLS, authentication, finding the master, reading the cluster's topology) may take longer than one call, so
it is a task of its own: one at a time, up to `OPENING_TIMEOUT`; calls wait for it within their own bound and give up
without ending it. Were opening part of the call, a server that needs 60 ms to come up would never be reached with a
bound of 50 ms.

After any failure, one of opening too, the client is thrown away with all its connections and the next call opens a new
one: a connection to a demoted master answers READONLY or MASTERDOWN for ever, and redis-py's cluster pipelines never
re-read the topology by themselves.

A cancelled DNS lookup goes on in its thread. The event loop's few resolver threads also serve the upstreams, so opening
first asks a thread of its own whether the names resolve at all, and never has two such lookups under way.

Left out on purpose: retries (a caller that can wait asks again; a request cannot), reads from replicas, pub/sub.
"""

import asyncio
import contextlib
import hashlib
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

from redis.asyncio import Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from gateway.alarm import Within
from gateway.config.sections.redis.model import RedisConfig
from gateway.policy.time_limit import TimeLimit
from gateway.store.port import StoreUnavailable
from gateway.store.redis.encoding import command
from gateway.store.redis.foreign import ForeignKeys
from gateway.store.redis.lookup import is_literal, look_up

Key = bytes | str
Arg = bytes | str | int | float
T = TypeVar("T")

PATIENCE = 1.0  # a store that has said nothing for so long is asked anew
MAX_CONNECTIONS = 32  # calls beyond it wait for a connection, within their own bound
_POOL_SIZE = MAX_CONNECTIONS + 1  # and the one that is kept out of the pool
OPENING_TIMEOUT = 1.0  # a server that comes back is noticed within a second
CLOSING_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Script:
    """A Lua script of this package. `sha` is the SHA-1 that EVALSHA wants."""

    name: str
    text: str
    sha: str


_PARTS = {"circuit_ops": ("replicas", "circuit", "operations", "report")}
"""The scripts that are made of several files, and the order in which those are joined."""

_WHOLE = "%slocal function run()\n%send\n\nreturn answered(run())\n"
"""A script, made of `lua/foreign.lua` and its own text."""


@cache
def script(name: str) -> Script:
    """The script in `gateway/store/lua/{name}.lua`, or in the parts in `gateway/store/lua/{name}/`. It is read once."""
    folder = files("gateway.store").joinpath("lua")
    parts = [f"{name}/{part}" for part in _PARTS[name]] if name in _PARTS else [name]
    foreign, *own = [folder.joinpath(f"{part}.lua").read_text(encoding="utf-8") for part in ("foreign", *parts)]
    text = _WHOLE % (foreign, "".join(own))
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


def ignore(command: str, seconds: float) -> None:
    """Observe nothing."""


class RedisClient:
    """Runs scripts on a single server, behind sentinels, or on a cluster, through redis-py's own clients.

    `observe(command, seconds)` is told of every call by its script's name, however it ended. Nothing connects before
    the first call. Must be used on one event loop, and closed on it.
    """

    def __init__(self, config: RedisConfig, observe: Callable[[str, float], None] = ignore) -> None:
        self._config = config
        self._observe = observe
        self._addresses = list(config.addresses)
        self._limit = TimeLimit(config.timeout, config.timeout_max)
        self._foreign = ForeignKeys()
        self._slots = asyncio.Semaphore(MAX_CONNECTIONS)
        self._sentinel: Sentinel | None = None
        self._redis: Redis | RedisCluster | None = None
        # A connection of the pool of `_redis` that is not given back between two calls.
        self._kept: AbstractConnection | None = None
        self._opening: asyncio.Task[None] | None = None
        self._lookup: asyncio.Future[None] | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._open = False
        self._closed = False

    def __repr__(self) -> str:
        return f"<RedisClient {self._config.mode} {'open' if self._open else 'not open'}>"

    @property
    def clustered(self) -> bool:
        """Whether the keys of one call must share a slot."""
        return self._config.mode == "cluster"

    @property
    def time_limit(self) -> float:
        """Seconds after which an answer is late."""
        return self._limit.seconds

    async def run(self, script: Script, keys: Sequence[Key], args: Sequence[Arg], *, patient: bool = False) -> Any:
        """Run a script (EVALSHA, EVAL once where the server does not know it). Raises only `StoreUnavailable`.

        On a cluster the keys must share a slot. A call that ended in `StoreUnavailable` may or may not have run, now or
        later.
        """

        async def call(redis: Redis | RedisCluster) -> Any:
            try:
                if isinstance(redis, Redis):
                    return await self._evalsha(redis, script.sha, keys, args)
                return await redis.evalsha(script.sha, len(keys), *keys, *args)
            except NoScriptError:
                return await redis.eval(script.text, len(keys), *keys, *args)

        return self._foreign.opened([await self._bounded(script.name, call, patient)])[0]

    async def run_many(
        self, script: Script, calls: Sequence[tuple[Sequence[Key], Sequence[Arg]]], *, patient: bool = False
    ) -> list[Any]:
        """Run a script for several sets of keys in one round trip (a pipeline; on a cluster one for each node).

        Answers in order. One that fails fails them all, though the others may have run. Raises only `StoreUnavailable`.
        """

        async def call(redis: Redis | RedisCluster) -> list[Any]:
            async def send(verb: str, script: str, wanted: Sequence[int]) -> list[Any]:
                pipeline = redis.pipeline(transaction=False) if isinstance(redis, Redis) else redis.pipeline()
                for i in wanted:
                    keys, args = calls[i]
                    # Not `pipeline.evalsha`: redis-py blocks that on clusters, though each call has one slot.
                    pipeline.execute_command(verb, script, len(keys), *keys, *args)
                return list(await pipeline.execute(raise_on_error=False))

            answers = await send("EVALSHA", script.sha, range(len(calls)))
            # Only what certainly did not run is sent again.
            unknown = [i for i, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if unknown:
                for i, answer in zip(unknown, await send("EVAL", script.text, unknown), strict=True):
                    answers[i] = answer
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

        return self._foreign.opened(await self._bounded(script.name, call, patient))

    async def close(self) -> None:
        """Close every connection. Calls under way and later ones fail."""
        self._closed = True
        self._discard()
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        while self._closing:
            await asyncio.wait(self._closing)

    async def _evalsha(self, redis: Redis, sha: str, keys: Sequence[Key], args: Sequence[Arg]) -> Any:
        """EVALSHA over the connection that is kept, or else over one of the pool's, written in one piece.

        What redis-py does besides for a command (a span, a retry, callbacks for the answer) is of no use here and takes
        as much time as all the rest, and so does its pool, which counts each taking and giving back. Where sending or
        reading fails or is cancelled, redis-py closes the connection.
        """
        words = [b"EVALSHA", sha.encode(), b"%d" % len(keys)]
        words += [each if isinstance(each, bytes) else str(each).encode() for each in (*keys, *args)]
        pool = redis.connection_pool
        kept, self._kept = self._kept, None
        if kept is not None and await _is_stale(kept):
            await pool.release(kept)
            kept = None
        connection = kept or await pool.get_connection()  # type: ignore[no-untyped-call]  # redis-py has no types for it
        try:
            await connection.send_packed_command(command(words), check_health=False)
            return await connection.read_response()
        finally:
            if redis is self._redis and self._kept is None and connection.is_connected:
                self._kept = connection
            else:
                await pool.release(connection)

    async def _bounded(self, name: str, call: Callable[[Redis | RedisCluster], Awaitable[T]], patient: bool) -> T:
        bound = max(PATIENCE, self._limit.seconds) if patient else self._limit.seconds
        started = time.monotonic()
        redis: Redis | RedisCluster | None = None
        try:
            async with Within(bound), self._slots:
                # Not before there is a place: the client of then may have been thrown away since.
                was_open = self._open
                if not was_open:
                    await self._opened()
                redis = self._redis
                assert redis is not None  # noqa: S101 - for the type checker: `_opened` returned
                answer = await call(redis)
                if was_open:
                    self._limit.record(time.monotonic() - started)
                return answer
        except StoreUnavailable:
            raise
        except TimeoutError as exc:
            self._lost(redis)
            raise StoreUnavailable(f"Redis did not answer within {bound * 1000:.0f} ms") from exc
        except Exception as exc:
            self._lost(redis)
            raise StoreUnavailable(_explain(exc)) from exc
        finally:
            self._observe(name, time.monotonic() - started)

    def _lost(self, redis: Redis | RedisCluster | None) -> None:
        """A call failed on `redis`: unless that client has been replaced since, the next call opens a new one."""
        if redis is not None and redis is self._redis:
            self._discard()

    async def _opened(self) -> None:
        opening = self._opening
        if opening is None and not self._closed:
            opening = self._opening = asyncio.create_task(self._establish())
            opening.add_done_callback(self._established)
        if opening is not None:
            # Not `shield`: when `close` ends the opening, those who wait for it must not take that for their own end.
            await asyncio.wait([opening])
        if opening is None or opening.cancelled():
            raise StoreUnavailable("the connection to Redis is closed")
        try:
            opening.result()
        except TimeoutError as exc:
            # Not the time limit of this call, which may be longer.
            limit = OPENING_TIMEOUT * 1000
            raise StoreUnavailable(f"a connection to Redis did not come about within {limit:.0f} ms") from exc

    def _established(self, task: "asyncio.Task[None]") -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # the calls that still waited have been told; without any, nobody needs to hear it

    async def _establish(self) -> None:
        async with asyncio.timeout(OPENING_TIMEOUT):
            await self._resolvable()
            redis = self._redis = self._build()
            try:
                if isinstance(redis, RedisCluster):
                    await redis.initialize()
                else:
                    await redis.ping()
                    # Once more, connected now: what a call takes is known before the first one has to be in time.
                    asked_at = time.monotonic()
                    await redis.ping()
                    self._limit.record(time.monotonic() - asked_at)
            except BaseException:
                # redis-py asks sentinels in order, and would begin with the same dead one each time.
                self._addresses.append(self._addresses.pop(0))
                self._discard()
                raise
        self._open = True

    async def _resolvable(self) -> None:
        """Wait until one of the configured names resolves. Raises OSError when none does."""
        names = [address for address in self._config.addresses if not is_literal(address[0])]
        if len(names) < len(self._config.addresses):
            return
        if self._lookup is None or self._lookup.done():
            self._lookup = look_up(names)
        await asyncio.shield(self._lookup)

    def _build(self) -> Redis | RedisCluster:
        config = self._config
        common: dict[str, Any] = {
            # Calls and opening are bounded as a whole. redis-py's own bound on writing costs a task for each command.
            "socket_timeout": None,
            "socket_connect_timeout": OPENING_TIMEOUT,
            "retry": Retry(NoBackoff(), 0),
            "protocol": 2,  # one round trip less to open, and no notifications that change time limits
            "driver_info": None,
        }
        if config.tls:
            common |= {
                "ssl": True,
                "ssl_cert_reqs": "required" if config.tls_verify else "none",
                "ssl_check_hostname": config.tls_verify,
                "ssl_ca_certs": config.tls_ca_file,
                "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            }
        login: dict[str, Any] = {"username": config.username, "password": config.password}
        # Some of several addresses may be dead: each gets its part of the time, so that one opening can try them all.
        share = OPENING_TIMEOUT / (len(config.addresses) + 1)
        parts = {"socket_timeout": share, "socket_connect_timeout": share}
        if config.mode == "cluster":
            # The bound also ends what redis-py leaves to itself when another node of the same pipeline fails.
            nodes = [ClusterNode(host, port) for host, port in config.addresses]
            return RedisCluster(startup_nodes=nodes, max_connections=_POOL_SIZE, **login, **(common | parts))
        if config.mode == "sentinel":
            sentinel_login = {"username": config.sentinel_username, "password": config.sentinel_password}
            self._sentinel = Sentinel(  # type: ignore[no-untyped-call]
                list(self._addresses), sentinel_kwargs=common | parts | sentinel_login
            )
            master: Redis = self._sentinel.master_for(
                config.master_name or "mymaster", db=config.db, max_connections=_POOL_SIZE, **login, **common
            )
            return master
        host, port = config.addresses[0]
        return Redis(host=host, port=port, db=config.db, max_connections=_POOL_SIZE, **login, **common)

    def _discard(self) -> None:
        redis, sentinel = self._redis, self._sentinel
        self._redis = self._sentinel = self._kept = None
        self._open = False
        if redis is not None:
            task = asyncio.create_task(_shut(redis, sentinel))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _is_stale(connection: AbstractConnection) -> bool:
    """Whether the server has closed a connection that was idle, or has said something that nobody asked for."""
    try:
        return not connection.is_connected or await connection.can_read()
    except (RedisError, OSError):
        return True


async def _shut(redis: Redis | RedisCluster, sentinel: Sentinel | None) -> None:
    for closing in (redis, sentinel):
        if closing is not None:
            with contextlib.suppress(RedisError, OSError, TimeoutError):
                async with asyncio.timeout(CLOSING_TIMEOUT):
                    await closing.aclose()


def _explain(exc: Exception) -> str:
    """What happened, in words safe to log: neither addresses nor anything that the server or the library wrote."""
    if isinstance(exc, ResponseError):
        code = str(exc).split(" ", 1)[0]
        return f"Redis refused the command ({code if code.isalpha() and code.isupper() else type(exc).__name__})"
    if isinstance(exc, RedisTimeoutError):
        return "Redis did not answer in time"
    return f"Redis cannot be used ({type(exc).__name__})"

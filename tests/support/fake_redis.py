"""A stand-in for `redis-server` where none is installed: fakeredis behind a real socket, with its own Lua.

It serves the conformance suite of the stores, so that `make test` covers the Lua scripts on a machine without Redis.
Fault tests need a real process that can be killed and stopped, and the Lua of the real one differs in places, so CI
always runs with a real Redis.
"""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import fakeredis
import redis

_LUA = Path(__file__).parent / "lua"


class _Server(fakeredis.TcpFakeServer):
    request_queue_size = 128  # of connections that are not accepted yet; five are too few for tests of concurrency


class FakeRedis:
    """Started on construction. Answers to `execute`, `flush`, `host` and `port` as `RedisServer` does."""

    host = "127.0.0.1"

    def __init__(self) -> None:
        self._server = _Server((self.host, 0), server_type="redis")
        # The first script of a server makes its interpreter, and names the libraries that it has from then on.
        os.environ["LUA_PATH"] = f"{_LUA}/?.lua"
        fakeredis.FakeRedis(server=self._server.fake_server, lua_modules={"struct"}).eval("return 1", 0)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, name="fake-redis", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def execute(self, *command: str | bytes | int | float) -> Any:
        """Run one command, as `redis-cli` would, and return its reply with strings decoded."""
        with redis.Redis(host=self.host, port=self.port, decode_responses=True, socket_timeout=5.0) as client:
            return client.execute_command(*command)

    def ensure_running(self) -> None:
        """It cannot be stopped."""

    def flush(self) -> None:
        """Forget every key and every script."""
        self.execute("FLUSHALL")
        self.execute("SCRIPT", "FLUSH", "SYNC")

"""Where a run happens: its directory, cores, upstream and Redis.

The upstream is an nginx that answers at once:

    /ok, and below any one-segment prefix     261 bytes of JSON
    /bytes/1k, /bytes/64k, /bytes/100m        files
    /sink                                     takes a request body to its end (`benchmarks.sink`)

each also behind `/proxy`, so that proxies that strip a prefix and those that do not get the same target.
"""

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import redis

import gateway
from benchmarks.children import Child
from benchmarks.host import Cores, free_port

ROOT = Path(__file__).resolve().parent.parent
SIZES = {"1k": 1024, "64k": 65_536, "100m": 100 * 1024 * 1024}
NEEDED = {
    "nginx": "apt-get install nginx-light",
    "wrk": "apt-get install wrk",
    "redis-server": "apt-get install redis-server",
}

_ITEM = '{"id":%d,"name":"an item of the list","price":19.99,"tags":["a","b"]}'
OK_BODY = ('{"status":"ok","items":[' + ",".join(_ITEM % number for number in range(3)) + "]}").ljust(261)

# One worker, where nothing else is said: the proxies under test have one core each, and so has what stands around them.
NGINX_FRAME = """
worker_processes {workers};
daemon off;
pid {directory}/{name}.pid;
error_log stderr error;
{user}
{modules}
events {{ worker_connections {connections}; accept_mutex off; }}
http {{
    access_log off;
    keepalive_timeout 300s;
    keepalive_requests 1000000000;
    client_max_body_size 0;
    client_body_temp_path {directory}/{name}-body;
    proxy_temp_path {directory}/{name}-proxy;
    fastcgi_temp_path {directory}/{name}-fastcgi;
    uwsgi_temp_path {directory}/{name}-uwsgi;
    scgi_temp_path {directory}/{name}-scgi;
{http}
}}
"""

_UPSTREAM = """
    default_type application/octet-stream;
    sendfile on;
    upstream sink {{ server 127.0.0.1:{sink}; keepalive 256; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        root {directory}/files;
        location ~ ^(/[^/]+)?/ok$ {{ default_type application/json; return 200 '{body}'; }}
        location ~ ^(?:/proxy)?(/bytes/.*)$ {{ try_files $1 =404; }}
        location ~ ^(?:/proxy)?/sink$ {{
            proxy_pass http://sink;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_request_buffering off;
        }}
    }}
"""


class Missing(Exception):
    """The benchmark itself cannot run without this."""


@dataclass(frozen=True, slots=True)
class Rig:
    directory: Path
    cores: Cores
    upstream_port: int
    redis_port: int
    redis_child: Child
    descriptors: int

    @property
    def upstream_url(self) -> str:
        return f"http://127.0.0.1:{self.upstream_port}"

    @property
    def redis_url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}/0"

    def redis(self) -> "redis.Redis":
        return redis.Redis(host="127.0.0.1", port=self.redis_port, decode_responses=True, socket_timeout=5.0)

    def redis_commands(self) -> int:
        """Commands that Redis has executed, those inside scripts included."""
        with self.redis() as client:
            return int(client.info("stats")["total_commands_processed"])

    def flush_redis(self) -> None:
        with self.redis() as client:
            client.flushall()


def nginx_command(
    directory: Path, name: str, http: str, *, modules: str = "", connections: int, workers: int = 1
) -> list[str]:
    """Write the configuration and say how to start it."""
    user = "user root;" if os.getuid() == 0 else ""
    path = directory / f"{name}.conf"
    path.write_text(
        NGINX_FRAME.format(
            directory=directory,
            name=name,
            http=http,
            modules=modules,
            user=user,
            connections=connections,
            workers=workers,
        )
    )
    return [nginx_binary(), "-e", "stderr", "-p", str(directory), "-c", str(path)]


def nginx_binary() -> str:
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or "nginx"


def program_environment(**variables: str) -> dict[str, str]:
    """For a Python program of ours: nothing of the caller's but the path, and the same gateway as in this process.

    The checkout is importable too, for the programs of the benchmarks.
    """
    where = f"{Path(gateway.__file__).parents[1]}{os.pathsep}{ROOT}"
    return {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": where, **variables}


@contextlib.contextmanager
def open_rig(cores: Cores, descriptors: int) -> Iterator[Rig]:
    """Start the upstream and Redis; everything is stopped and removed in the end. Raises `Missing`."""
    for program, remedy in NEEDED.items():
        if shutil.which(program) is None and not (program == "nginx" and shutil.which(nginx_binary())):
            raise Missing(f"{program} is not installed: {remedy}")
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        files = directory / "files" / "bytes"
        files.mkdir(parents=True)
        for name, size in SIZES.items():
            with (files / name).open("wb") as file:
                file.truncate(size)  # sparse: read as zeros, from the page cache
        sink, port, redis_port = free_port(), free_port(), free_port()

        def start(name: str, command: list[str], listening: int, env: dict[str, str] | None = None) -> Child:
            child = stack.enter_context(Child(name, command, core=cores.load, directory=directory, env=env))
            child.wait_listening(listening)
            return child

        start("sink", [sys.executable, "-m", "benchmarks.sink", str(sink)], sink, program_environment())
        http = _UPSTREAM.format(directory=directory, port=port, sink=sink, body=OK_BODY)
        start("upstream", nginx_command(directory, "upstream", http, connections=min(descriptors, 8192)), port)
        redis_command = ["redis-server", "--port", str(redis_port), "--bind", "127.0.0.1", "--save", "", "--dir"]
        child = start("redis", [*redis_command, str(directory), "--appendonly", "no"], redis_port)
        yield Rig(directory, cores, port, redis_port, child, descriptors)

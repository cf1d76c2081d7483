"""Node: Fastify with its proxy and Redis rate limit plugins where they are installed, else the bare core."""

import shutil
from pathlib import Path

from benchmarks.children import Child
from benchmarks.host import free_port
from benchmarks.peers.base import Peer, Proxy
from benchmarks.rig import Rig

_DIRECTORY = Path(__file__).parent / "node"


def _has_fastify() -> bool:
    return (_DIRECTORY / "node_modules" / "@fastify" / "http-proxy").is_dir()


def _missing() -> str | None:
    install = "npm install --no-package-lock --prefix benchmarks/peers/node"
    return None if shutil.which("node") else f"apt-get install nodejs npm; {install}"


def _start(rig: Rig) -> Proxy:
    port = free_port()
    script = _DIRECTORY / ("fastify.cjs" if _has_fastify() else "plain.cjs")
    name = "fastify" if _has_fastify() else "node"
    command = ["node", str(script), str(port), rig.upstream_url, str(rig.redis_port)]
    child = Child(name, command, core=rig.cores.proxy, directory=rig.directory)
    child.wait_listening(port)
    return Proxy(name, child, port, uses_redis=_has_fastify())


NODE = Peer(
    "fastify" if _has_fastify() else "node",
    "rate limit in Redis, asked for each request" if _has_fastify() else "none",
    _missing,
    _start,
    warm_up=3.0,
)

"""The usual Python reverse proxy (`benchmarks.peers.aiohttp_app`)."""

import sys

from benchmarks.children import Child
from benchmarks.host import free_port
from benchmarks.peers.base import Peer, Proxy
from benchmarks.rig import Rig, program_environment


def _start(rig: Rig) -> Proxy:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.peers.aiohttp_app", str(port), rig.upstream_url]
    child = Child("aiohttp", command, core=rig.cores.proxy, directory=rig.directory, env=program_environment())
    child.wait_listening(port)
    return Proxy("aiohttp", child, port)


AIOHTTP = Peer("aiohttp", "none", lambda: None, _start)

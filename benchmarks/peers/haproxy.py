"""HAProxy, plain, one thread."""

import shutil

from benchmarks.children import Child
from benchmarks.host import free_port
from benchmarks.peers.base import Peer, Proxy
from benchmarks.rig import Rig

_CONFIG = """
global
    nbthread 1
    # It would refuse to start where the limit of open files is less than two for each.
    no strict-limits
    maxconn 15000
defaults
    mode http
    timeout connect 2s
    timeout client 300s
    timeout server 30s
    http-reuse always
    option forwardfor
frontend bench
    bind 127.0.0.1:{port} backlog 4096
    default_backend behind
backend behind
    server upstream 127.0.0.1:{upstream} pool-max-conn 1024
"""


def _missing() -> str | None:
    return None if shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin") else "apt-get install haproxy"


def _start(rig: Rig) -> Proxy:
    port = free_port()
    path = rig.directory / "haproxy.cfg"
    path.write_text(_CONFIG.format(port=port, upstream=rig.upstream_port))
    binary = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "haproxy"
    child = Child("haproxy", [binary, "-db", "-f", str(path)], core=rig.cores.proxy, directory=rig.directory)
    child.wait_listening(port)
    return Proxy("haproxy", child, port)


HAPROXY = Peer("haproxy", "none", _missing, _start)

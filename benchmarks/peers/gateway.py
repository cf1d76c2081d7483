"""The gateway: `python -m gateway run`, all protections and Redis on, limits above what the load can reach.

It is the one that is installed. Where that is a compiled one (`make build`), the sources of the checkout run beside it,
interpreted.
"""

import http
import subprocess
import sys
import urllib.request
from collections.abc import Mapping

import yaml

from benchmarks.children import Child, ChildFailed
from benchmarks.host import free_port
from benchmarks.peers.base import Peer, Proxy
from benchmarks.rig import ROOT, Rig, program_environment
from gateway.compiled import COMPILED

# The rate limit decides about every request but never says no. A lease has a sixteenth of the capacity for a tenth of a
# second, and this is so much that nobody waits for leases, even where an open circuit spends tokens faster than any
# upstream answers. The caps are above the 1,000 busy connections, as nginx has none. Everything else is as it is by
# default: access log, metrics, breaker, retries, budget, deadlines.
DEFAULTS = {
    "HOST": "127.0.0.1",
    "RATE_LIMIT_CAPACITY": "500000",
    "RATE_LIMIT_REFILL_RATE": "500000",
    "MAX_INFLIGHT": "4000",
    "BULKHEAD_LIMIT": "4000",
    "UPSTREAM_MAX_CONNECTIONS": "1024",
}


def gateway(
    name: str = "gateway",
    env: Mapping[str, str] | None = None,
    *,
    routes: object = None,
    redis: bool = True,
    workers: int | None = None,
    interpreted: bool = False,
) -> Peer:
    """A variant. `env` goes before the defaults; `routes` is the content of a configuration file, if any. With
    `workers` it has that many, on all cores. `interpreted` is the checkout beside a compiled one."""

    def start(rig: Rig) -> Proxy:
        port = free_port()
        variables = DEFAULTS | {"PORT": str(port), "UPSTREAM_URL": rig.upstream_url}
        if redis:
            # A prefix of its own: variants that run side by side are not replicas of each other.
            variables |= {"REDIS_URL": rig.redis_url, "REDIS_KEY_PREFIX": name}
        if routes is not None:
            path = rig.directory / f"{name}.yaml"
            path.write_text(yaml.safe_dump(routes))
            variables["GATEWAY_CONFIG"] = str(path)
        if workers is not None:
            variables["WORKERS"] = str(workers)
        environment = program_environment(**(variables | dict(env or {})))
        if interpreted:
            environment["PYTHONPATH"] = str(ROOT)
        command = [sys.executable, "-m", "gateway"]
        # Its standard output is the access log: as much as the load makes it, and wanted by nobody.
        core = rig.cores.proxy if workers is None else None
        child = Child(name, [*command, "run"], core=core, directory=rig.directory, env=environment, quiet=True)
        try:
            child.wait_listening(port)
            # The supervisor listens before its workers are ready.
            child.wait_until(lambda: _answers(port))
        except ChildFailed as error:
            check = subprocess.run(
                [*command, "check"],
                env=environment,
                cwd=rig.directory,
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            raise ChildFailed(f"{error}\n{check.stdout[-800:]}{check.stderr[-800:]}") from None
        return Proxy(name, child, port, uses_redis=redis)

    protections = "all of them, shared through Redis" if redis else "all of them"
    return Peer(name, protections, _nothing_compiled if interpreted else lambda: None, start)


def _nothing_compiled() -> str | None:
    return None if COMPILED else "the gateway is interpreted itself; make build"


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=5.0) as answer:
            return bool(answer.status == http.HTTPStatus.OK)
    except OSError:
        return False


GATEWAY = gateway()
INTERPRETED = gateway("gateway-interpreted", interpreted=True)

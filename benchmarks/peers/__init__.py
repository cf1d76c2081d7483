"""The proxies that are compared, in the order in which a report lists them."""

from benchmarks.peers.aiohttp_peer import AIOHTTP
from benchmarks.peers.base import Peer, Proxy
from benchmarks.peers.envoy import ENVOY, envoy_adaptive
from benchmarks.peers.gateway import GATEWAY, INTERPRETED, gateway
from benchmarks.peers.haproxy import HAPROXY
from benchmarks.peers.nginx import NGINX, NGINX_LUA
from benchmarks.peers.node import NODE

PEERS = (NGINX, GATEWAY, INTERPRETED, NGINX_LUA, HAPROXY, ENVOY, AIOHTTP, NODE)

__all__ = [
    "AIOHTTP",
    "ENVOY",
    "GATEWAY",
    "HAPROXY",
    "INTERPRETED",
    "NGINX",
    "NGINX_LUA",
    "NODE",
    "PEERS",
    "Peer",
    "Proxy",
    "envoy_adaptive",
    "gateway",
]

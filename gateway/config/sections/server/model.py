"""The listener in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass
from typing import Literal

from gateway.syntax.hosts import Network


@dataclass(frozen=True, slots=True)
class ListenerTls:
    """The paths of the listener's certificate chain and of its private key, both in PEM."""

    cert_file: str
    key_file: str


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The listening side. `host` empty means every address, IPv4 and IPv6.

    `client_idle_timeout` bounds the silence of a client within a request body, and the time in which it takes
    nothing of a response that waits for it. The data rates are bytes a second on average, 0 for none; no body is
    judged by its rate within `data_rate_grace`. `request_body_timeout` bounds a request body in all, 0 for never.
    `drain_delay` is the pause between `/readyz` turning 503 and the listener closing; `drain_timeout` is how long
    exchanges in flight then have. `tunnel_drain` is what tunnels have when their worker is replaced.
    """

    host: str = ""
    port: int = 5000
    tls: ListenerTls | None = None
    max_connections: int = 20_000
    max_request_line_bytes: int = 8192
    max_header_bytes: int = 32_768
    max_header_count: int = 100
    header_timeout: float = 10.0
    keepalive_timeout: float = 75.0
    client_idle_timeout: float = 60.0
    min_request_body_data_rate: int = 240
    min_response_data_rate: int = 240
    data_rate_grace: float = 5.0
    request_body_timeout: float = 0.0
    drain_delay: float = 0.0
    drain_timeout: float = 30.0
    tunnel_drain: float = 60.0
    trusted_proxies: tuple[Network, ...] = ()
    underscores: Literal["pass", "drop"] = "pass"
    via_name: str = "gateway"
    server_timing: bool = False

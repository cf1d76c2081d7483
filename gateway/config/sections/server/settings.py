"""The settings of the listener."""

from typing import Annotated, Literal

from annotated_types import Interval
from pydantic import Field

from gateway.config.declaring.field_types import FileName, Host, Port, ProxyNetwork, ViaName
from gateway.config.declaring.section import Bytes, Env, Seconds, Section, Unit


class Server(Section):
    """The listener"""

    host: Annotated[Host, Env("HOST", "Address to listen on", "every address, IPv4 and IPv6")] = ""
    port: Annotated[Port, Env("PORT", "TCP port to listen on")] = 5000
    tls_cert_file: Annotated[
        FileName | None, Env("TLS_CERT_FILE", "Certificate chain of the listener, PEM", "plain HTTP")
    ] = None
    tls_key_file: Annotated[
        FileName | None, Env("TLS_KEY_FILE", "Private key of the listener, PEM, not encrypted", "plain HTTP")
    ] = None
    max_connections: Annotated[
        int, Interval(ge=1, le=1_000_000), Env("MAX_CONNECTIONS", "Open client connections in all")
    ] = 20_000
    max_request_line_bytes: Annotated[
        Bytes, Interval(ge=256, le=65_536), Env("MAX_REQUEST_LINE_BYTES", "Longest request line; beyond it 414")
    ] = 8192
    max_header_bytes: Annotated[
        Bytes, Interval(ge=1024, le=1_048_576), Env("MAX_HEADER_BYTES", "Largest header section; beyond it 431")
    ] = 32_768
    max_header_count: Annotated[
        int, Interval(ge=8, le=1000), Env("MAX_HEADER_COUNT", "Most header fields; beyond it 431")
    ] = 100
    header_timeout: Annotated[
        Seconds, Interval(ge=0.1, le=600), Env("HEADER_TIMEOUT_SECONDS", "Time for a whole request head; then 408")
    ] = 10.0
    keepalive_timeout: Annotated[
        Seconds, Interval(ge=0.1, le=3600), Env("KEEPALIVE_TIMEOUT_SECONDS", "Idle client connections close after it")
    ] = 75.0
    client_idle_timeout: Annotated[
        Seconds,
        Interval(ge=0.1, le=3600),
        Env("CLIENT_IDLE_TIMEOUT_SECONDS", "Longest silence of a client within a body, either way"),
    ] = 60.0
    min_request_body_data_rate: Annotated[
        int,
        Interval(ge=0, le=1_000_000_000),
        Unit("bytes a second"),
        Env("MIN_REQUEST_BODY_DATA_RATE", "Least rate of a request body on average; below it 408; 0 is none"),
    ] = 240
    min_response_data_rate: Annotated[
        int,
        Interval(ge=0, le=1_000_000_000),
        Unit("bytes a second"),
        Env("MIN_RESPONSE_DATA_RATE", "Least rate at which a client takes a response that waits for it; 0 is none"),
    ] = 240
    data_rate_grace: Annotated[
        Seconds,
        Interval(ge=0.1, le=3600),
        Env("DATA_RATE_GRACE_SECONDS", "Time before a body is judged by its rate"),
    ] = 5.0
    request_body_timeout: Annotated[
        Seconds,
        Interval(ge=0, le=86_400),
        Env("REQUEST_BODY_TIMEOUT_SECONDS", "Longest time for a request body in all; then 408; 0 is no limit"),
    ] = 0.0
    drain_delay: Annotated[
        Seconds, Interval(ge=0, le=600), Env("DRAIN_DELAY_SECONDS", "From /readyz turning 503 to the listener closing")
    ] = 0.0
    drain_timeout: Annotated[
        Seconds, Interval(ge=0, le=3600), Env("DRAIN_TIMEOUT_SECONDS", "What requests in flight then have to finish")
    ] = 30.0
    tunnel_drain: Annotated[
        Seconds,
        Interval(ge=0, le=86_400),
        Env("TUNNEL_DRAIN_SECONDS", "What WebSocket tunnels of a replaced worker have, before they are closed (1001)"),
    ] = 60.0
    trusted_proxies: Annotated[
        list[ProxyNetwork],
        Env("TRUSTED_PROXIES", "Peers whose X-Forwarded-For counts", "nobody is trusted"),
    ] = Field(default_factory=list)
    underscores: Annotated[
        Literal["pass", "drop"],
        Env(
            "HEADERS_WITH_UNDERSCORES",
            "Fields with _ in their name; those that could be taken for the gateway's own are always dropped",
        ),
    ] = "pass"
    via_name: Annotated[
        ViaName,
        Env("VIA_NAME", "Our name in Via; seeing it again is 508"),
    ] = "gateway"
    server_timing: Annotated[
        bool, Env("SERVER_TIMING", "Answers say in Server-Timing how long they took, and their upstream")
    ] = False

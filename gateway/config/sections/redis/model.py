"""Redis in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, slots=True)
class RedisConfig:
    """Where the shared state lives. `addresses` are servers, sentinels or cluster nodes, according to `mode`.

    A command may take `timeout` seconds, or more where Redis usually takes more, up to `timeout_max`; it is what a
    request may lose once to a dead Redis.
    """

    mode: Literal["single", "sentinel", "cluster"]
    addresses: tuple[tuple[str, int], ...]
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    tls_verify: bool = True
    tls_ca_file: str | None = None
    master_name: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)
    timeout: float = 0.05
    timeout_max: float = 0.25
    key_prefix: str = "api-gateway"

"""The settings of the connection to Redis."""

from typing import Annotated

from annotated_types import Interval
from pydantic import Field

from gateway.config.declaring.field_types import Address, FileName, Host, KeyPrefix, Name, Port, RedisUrl
from gateway.config.declaring.section import Env, Seconds, Section


class Redis(Section):
    """Redis (no URL, host, sentinels or cluster nodes: the embedded store, shared on this host alone)"""

    url: Annotated[
        RedisUrl | None,
        Env("REDIS_URL", "One server as a URL; rediss:// is TLS", "not this way"),
    ] = None
    host: Annotated[Host | None, Env("REDIS_HOST", "One server by its parts", "not this way")] = None
    port: Annotated[Port, Env("REDIS_PORT", "Its port")] = 6379
    db: Annotated[int, Interval(ge=0, le=9999), Env("REDIS_DB", "Database number; 0 with a cluster")] = 0
    username: Annotated[str | None, Env("REDIS_USERNAME", "ACL user", "Redis' default user")] = None
    password: Annotated[str | None, Env("REDIS_PASSWORD", "Password", "none", secret=True)] = Field(
        default=None, repr=False
    )
    timeout: Annotated[
        Seconds,
        Interval(ge=0.001, le=5),
        Env("REDIS_TIMEOUT", "Bounds every command to a Redis that is usually faster"),
    ] = 0.05
    timeout_max: Annotated[
        Seconds,
        Interval(ge=0.001, le=5),
        Env("REDIS_TIMEOUT_MAX", "Where Redis usually takes longer the bound follows it, up to this"),
    ] = 0.25
    tls: Annotated[bool, Env("REDIS_TLS", "TLS towards Redis")] = False
    tls_verify: Annotated[bool, Env("REDIS_TLS_VERIFY", "Verify the certificate and host name of Redis")] = True
    tls_ca_file: Annotated[
        FileName | None, Env("REDIS_TLS_CA_FILE", "CA certificates for Redis, PEM", "the system's")
    ] = None
    sentinels: Annotated[
        list[Address], Env("REDIS_SENTINELS", "The sentinels; port 26379 if not given", "not this way")
    ] = Field(default_factory=list)
    master_name: Annotated[
        Name | None, Env("REDIS_SENTINEL_MASTER", "Name of the master that the sentinels watch", "none")
    ] = None
    sentinel_username: Annotated[str | None, Env("REDIS_SENTINEL_USERNAME", "ACL user of the sentinels", "none")] = None
    sentinel_password: Annotated[
        str | None, Env("REDIS_SENTINEL_PASSWORD", "Password of the sentinels", "none", secret=True)
    ] = Field(default=None, repr=False)
    cluster_nodes: Annotated[
        list[Address],
        Env("REDIS_CLUSTER_NODES", "Some nodes of a cluster; port 6379 if not given", "not this way"),
    ] = Field(default_factory=list)
    key_prefix: Annotated[
        KeyPrefix,
        Env("REDIS_KEY_PREFIX", "First part of every key; equal for all replicas of one gateway"),
    ] = "api-gateway"

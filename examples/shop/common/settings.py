"""What a service is told by its environment. README.md has the table."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

# The key that orders shows to the gateway. It is public, so it protects nothing outside of this example: make one with
# `gateway keys create orders --yaml`, and put its hash into gateway.yaml.
EXAMPLE_KEY = "gw_shoporders01_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"


@dataclass(frozen=True)
class Settings:
    """`database_url` is `sqlite:///PATH` or `postgresql://…`; `redis_url` is None without Redis. `leader` says who
    leads an order through its steps: the service `orders`, or the `gateway`."""

    name: str
    host: str
    port: int
    database_url: str
    redis_url: str | None
    gateway_url: str
    gateway_key: str
    leader: str = "orders"

    @classmethod
    def of(cls, name: str, port: int, environment: Mapping[str, str] = os.environ) -> "Settings":
        """The settings of the service `name`, whose port is `port` if nothing else is said. An empty variable counts
        as not set. ValueError with a message for the user."""
        given = {key: value for key, value in environment.items() if value.strip()}
        text = given.get("PORT", str(port))
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= 65535):
            raise ValueError(f"PORT must be a whole number from 1 to 65535, not {text!r}")
        leader = given.get("LEADER", "orders")
        if leader not in {"orders", "gateway"}:
            raise ValueError(f"LEADER must be orders or gateway, not {leader!r}")
        default = Path(__file__).parents[1] / "data" / f"{name}.db"
        return cls(
            name=name,
            host=given.get("HOST", "127.0.0.1"),
            port=int(text),
            database_url=given.get("DATABASE_URL", f"sqlite:///{default}"),
            redis_url=given.get("REDIS_URL"),
            gateway_url=given.get("GATEWAY_URL", "http://127.0.0.1:8000").rstrip("/"),
            gateway_key=given.get("GATEWAY_KEY", EXAMPLE_KEY),
            leader=leader,
        )

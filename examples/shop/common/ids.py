"""Ids that sort by the time at which they were made, so that a query in their order is a query by age."""

import secrets
import time


def new_id(kind: str) -> str:
    """Such as `order_18c2f0a1b2c3d4e5f60718293a4b`: nanoseconds and 48 random bits, in hexadecimal digits."""
    return f"{kind}_{time.time_ns():016x}{secrets.token_hex(6)}"

"""API keys for tests: known texts, and what is kept of them."""

import hashlib


def key(key_id: str, letter: str = "A") -> str:
    """A key by its form; `letter` makes its secret."""
    return f"gw_{key_id}_{letter * 43}"


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()

"""What one request with a key has to do with the journal, from its claim to its end."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from gateway.journal.idempotency import Found, Held

if TYPE_CHECKING:
    from hashlib import _Hash


class Claim:
    """The record of a key, held by one request. `settled` says that an ending was written, or is being written.
    `renew_at` is the instant of the monotonic clock from which on its lease is to be renewed."""

    __slots__ = ("fence", "key", "lease", "owner", "renew_at", "route", "settled")

    def __init__(self, key: bytes, route: str, owner: str, fence: int, lease: float, now: float) -> None:
        self.key: Final = key
        self.route: Final = route
        self.owner: Final = owner
        self.fence: Final = fence
        self.lease: Final = lease
        self.renew_at = now + lease / 2
        self.settled = False

    @property
    def held(self) -> Held:
        """What every statement of the holder compares."""
        return (self.key, self.owner, self.fence)

    def __repr__(self) -> str:
        return f"<Claim {self.key.hex()[:12]} {self.owner}/{self.fence}{' settled' if self.settled else ''}>"


class Promise:
    """One request with a key.

    `content` is the SHA-256 of the request as far as it has come. `claim` is held by it, None before the claim, and
    where the request goes on without one because the journal is away (`on_store_failure: open`). `found` is the
    finished record of an earlier request. While `drained` is set, the body of this one is only hashed, and `drained` is
    called when all of it has come.
    """

    __slots__ = ("claim", "content", "drained", "found")

    def __init__(self, content: "_Hash") -> None:
        self.content = content
        self.claim: Claim | None = None
        self.found: Found | None = None
        self.drained: Callable[[], None] | None = None

    def __repr__(self) -> str:
        return f"<Promise {self.claim or self.found}>"

"""The keys of one issuer, as they are looked for: by the `kid` of a token and its algorithm.

Each key is good for some of the issuer's algorithms and for nothing else, so an algorithm finds only keys of its own
kind. A `kid` is a word to look up and has no meaning (RFC 8725 section 3.10).
"""

from collections.abc import Callable, Iterable
from typing import Final

Verify = Callable[[bytes, bytes], bool]
"""Whether the second is the signature of the first."""

MOST_TRIED: Final = 8
"""So many keys are tried for a token that names none, or a name that several have: each costs a signature check."""


class Key:
    """One key. `verify` has how it checks signatures, by algorithm; `described` is what may be told of it; what has
    another `fingerprint` is another key."""

    __slots__ = ("described", "fingerprint", "kid", "verify")

    def __init__(self, kid: str | None, verify: dict[str, Verify], described: str, fingerprint: bytes) -> None:
        self.kid = kid
        self.verify = verify
        self.described = described
        self.fingerprint = fingerprint

    def __repr__(self) -> str:
        return f"<Key {self.kid} {self.described}>"


class KeySet:
    """Immutable. `skipped` says of which keys nothing is made, and why."""

    __slots__ = ("_named", "_unnamed", "fingerprints", "keys", "skipped")

    def __init__(self, keys: Iterable[Key], skipped: Iterable[str] = ()) -> None:
        self.keys = tuple(keys)
        self.skipped = tuple(skipped)
        self.fingerprints = frozenset(key.fingerprint for key in self.keys)
        self._named: dict[tuple[str, str], list[Verify]] = {}
        self._unnamed: dict[tuple[bool, str], list[Verify]] = {}
        for key in self.keys:
            for algorithm, verify in key.verify.items():
                if key.kid is None:
                    self._unnamed.setdefault((True, algorithm), []).append(verify)
                else:
                    self._named.setdefault((key.kid, algorithm), []).append(verify)
                self._unnamed.setdefault((False, algorithm), []).append(verify)

    def __repr__(self) -> str:
        return f"<KeySet of {len(self.keys)}>"

    def candidates(self, kid: str | None, algorithm: str) -> list[Verify]:
        """What may check a token: the keys of its `kid`, else those without one; all for a token without `kid`."""
        if kid is None:
            return self._unnamed.get((False, algorithm), [])[:MOST_TRIED]
        return (self._named.get((kid, algorithm)) or self._unnamed.get((True, algorithm), []))[:MOST_TRIED]

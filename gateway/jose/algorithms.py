"""The signature algorithms that are taken, and the one kind of key that each of them may use.

An algorithm is bound to a type of key, a curve or a length (RFC 8725 sections 3.1 and 3.2): a public RSA key can never
be the secret of an HMAC, and `none` is in no table. Left out are ES256K, because no issuer of logins uses it, and
everything that encrypts.
"""

from typing import Final, NamedTuple


class Algorithm(NamedTuple):
    """`key_type` and `curve` are the `kty` and `crv` of a JWK. `secret_bytes` is how long a secret has to be at least
    (RFC 7518 section 3.2), 0 for a key pair."""

    key_type: str
    curve: str = ""
    secret_bytes: int = 0


ALGORITHMS: Final[dict[str, Algorithm]] = {
    "RS256": Algorithm("RSA"),
    "RS384": Algorithm("RSA"),
    "RS512": Algorithm("RSA"),
    "PS256": Algorithm("RSA"),
    "PS384": Algorithm("RSA"),
    "PS512": Algorithm("RSA"),
    "ES256": Algorithm("EC", "P-256"),
    "ES384": Algorithm("EC", "P-384"),
    "ES512": Algorithm("EC", "P-521"),
    # The second is the newer name of the first (RFC 9864).
    "EdDSA": Algorithm("OKP", "Ed25519"),
    "Ed25519": Algorithm("OKP", "Ed25519"),
    "HS256": Algorithm("oct", secret_bytes=32),
    "HS384": Algorithm("oct", secret_bytes=48),
    "HS512": Algorithm("oct", secret_bytes=64),
}

SYMMETRIC: Final = frozenset(name for name, each in ALGORITHMS.items() if each.secret_bytes)
"""Those whose key can sign as well as check, so that it is a secret."""

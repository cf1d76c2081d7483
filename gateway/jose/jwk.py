"""From the text of a JWK set, or of a secret, to keys that check signatures.

What a single key lacks makes that key unusable and no other: sets have keys for encryption, and of algorithms that the
issuer is not configured with. A set that has nothing usable at all is an error. The library (PyJWT with cryptography)
makes numbers into keys, which includes that a point is on its curve, and checks signatures. Whatever has to be decided
about a token is decided by us.
"""

import hashlib
from collections.abc import Collection
from functools import partial
from typing import Any, Final

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import get_default_algorithms

from gateway.jose.algorithms import ALGORITHMS
from gateway.jose.keys import Key, KeySet, Verify
from gateway.jose.strict_json import parse_object

MOST_KEYS: Final = 100
MOST_BYTES: Final = 262_144
LEAST_RSA_BITS: Final = 2048
"""RFC 7518 section 3.3."""
_MOST_RSA_BITS: Final = 8192
_LONGEST_KID: Final = 256

_LIBRARY: Final = get_default_algorithms()
# The members of a public key, by type: whatever else a key brings is not shown to the library.
_PUBLIC: Final = {"RSA": ("n", "e"), "EC": ("crv", "x", "y"), "OKP": ("crv", "x")}
_EDDSA: Final = {"Ed25519": "EdDSA"}


class KeysError(ValueError):
    """A text from which no key can be made; `str()` says why, and has nothing of the text but names of keys."""


def parse_set(data: bytes, algorithms: Collection[str]) -> KeySet:
    """The keys of a JWK set that are usable with one of `algorithms`. Raises `KeysError`."""
    if len(data) > MOST_BYTES:
        raise KeysError(f"the key set is larger than {MOST_BYTES} bytes")
    try:
        entries = parse_object(data).get("keys")
    except ValueError:
        raise KeysError("it is no JWK set: not one JSON object, or a member is there twice") from None
    if not isinstance(entries, list):
        raise KeysError('it is no JWK set: there is no list "keys"')
    if len(entries) > MOST_KEYS:
        raise KeysError(f"the key set has more than {MOST_KEYS} keys")
    keys: list[Key] = []
    skipped: list[str] = []
    for index, entry in enumerate(entries):
        try:
            keys.append(_key(entry, algorithms))
        except KeysError as error:
            skipped.append(f"keys[{index}]: {error}")
    if not keys:
        raise KeysError(f"it has no key that can be used: {'; '.join(skipped[:3]) or 'it is empty'}")
    return KeySet(keys, skipped)


def secret_set(data: bytes, algorithms: Collection[str]) -> KeySet:
    """The one secret for HMAC that a file has; line ends behind it do not belong to it. Raises `KeysError`."""
    secret = data.rstrip(b"\r\n")
    verify: dict[str, Verify] = {}
    for name in algorithms:
        least = ALGORITHMS[name].secret_bytes
        if len(secret) < least:
            raise KeysError(f"the secret has {len(secret)} bytes, and {name} needs {least} (RFC 7518 section 3.2)")
        try:
            library = _LIBRARY[name]
            verify[name] = partial(_verified, library, library.prepare_key(secret))
        except jwt.InvalidKeyError:
            raise KeysError("it is a PEM, DER or SSH key and no secret: who knows a public key could sign") from None
    return KeySet([Key(None, verify, "a secret", hashlib.sha256(secret).digest())])


def _key(entry: object, algorithms: Collection[str]) -> Key:
    if not isinstance(entry, dict):
        raise KeysError("it is not an object")
    kid = entry.get("kid")
    if kid is not None and not (isinstance(kid, str) and len(kid) <= _LONGEST_KID):
        raise KeysError("its kid is not a text of at most 256 characters")
    if entry.get("use", "sig") != "sig" or "verify" not in _operations(entry):
        raise KeysError("it is not for signatures")
    if "d" in entry or "k" in entry:
        raise KeysError("it is a secret or private key, which nobody may publish")
    kind, curve = entry.get("kty"), entry.get("crv", "")
    fitting = [
        name
        for name in algorithms
        if ALGORITHMS[name].key_type == kind
        and ALGORITHMS[name].curve == (curve if kind != "RSA" else "")
        and entry.get("alg", name) == name
    ]
    if not fitting or not isinstance(kind, str):
        raise KeysError("it is for none of the issuer's algorithms")
    members = {name: entry.get(name) for name in _PUBLIC[kind]}
    public = _public(kind, fitting[0], members)
    verify: dict[str, Verify] = {name: partial(_verified, _library(name), public) for name in fitting}
    bits = f" {public.key_size}" if isinstance(public, RSAPublicKey) else f" {curve}"
    return Key(kid, verify, f"{kind}{bits}", hashlib.sha256(repr((kid, sorted(fitting), members)).encode()).digest())


def _operations(entry: dict[str, Any]) -> Collection[str]:
    found = entry.get("key_ops", ("verify",))
    return found if isinstance(found, list | tuple) else ()


def _library(algorithm: str) -> Any:
    return _LIBRARY[_EDDSA.get(algorithm, algorithm)]


def _public(kind: str, algorithm: str, members: dict[str, Any]) -> Any:
    if not all(isinstance(value, str) for value in members.values()):
        raise KeysError("its members are not complete")
    try:
        public = _library(algorithm).from_jwk({"kty": kind, **members})
    except (jwt.InvalidKeyError, UnsupportedAlgorithm, ValueError, TypeError, OverflowError):
        raise KeysError("its numbers make no key") from None
    if isinstance(public, RSAPublicKey) and not LEAST_RSA_BITS <= public.key_size <= _MOST_RSA_BITS:
        raise KeysError(f"its modulus has {public.key_size} bits; {LEAST_RSA_BITS} to {_MOST_RSA_BITS} are taken")
    return public


def _verified(library: Any, key: Any, signed: bytes, signature: bytes) -> bool:
    """Whether it is the signature. A signature that is none by its form is not."""
    try:
        return bool(library.verify(signed, key, signature))
    except (jwt.PyJWTError, ValueError, TypeError):
        return False

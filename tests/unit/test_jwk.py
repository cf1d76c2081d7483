"""Key sets and secrets: what is made into keys, what is left out and why, and what is no key set at all."""

import base64
import json
from typing import Any

import pytest

from gateway.jose.jwk import MOST_BYTES, MOST_KEYS, KeysError, parse_set, secret_set
from gateway.jose.keys import MOST_TRIED, KeySet
from tests.support.issuer import SigningKey, jwks, number, rsa_key

KEY = SigningKey("k1")
EC = SigningKey("e1", "ES256")
ED = SigningKey("o1", "EdDSA")
ALL = ("RS256", "PS256", "ES256", "ES384", "EdDSA", "Ed25519")


def parsed(*entries: object, algorithms: tuple[str, ...] = ALL) -> KeySet:
    return parse_set(json.dumps({"keys": entries}).encode(), algorithms)


def test_a_set_of_every_kind() -> None:
    found = parse_set(json.dumps(jwks(KEY, EC, ED)).encode(), ALL)
    assert [(key.kid, key.described) for key in found.keys] == [
        *(("k1", "RSA 2048"), ("e1", "EC P-256"), ("o1", "OKP Ed25519"))
    ]
    assert found.skipped == ()
    assert [len(found.candidates(kid, "RS256")) for kid in ("k1", "e1", "x", None)] == [1, 0, 0, 1]
    # What the key itself says of its algorithm goes before.
    assert found.candidates("k1", "PS256") == []


def without(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in names}


def test_a_key_that_says_no_algorithm_is_for_all_of_its_kind() -> None:
    found = parsed(without(KEY.jwk, "alg", "use", "kid"))
    assert [len(found.candidates(None, algorithm)) for algorithm in ("RS256", "PS256", "ES256")] == [1, 1, 0]


WEAK = SigningKey("weak", bits=1024)
_POINT = base64.urlsafe_b64encode(bytes(31) + b"\x01").rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        (7, "it is not an object"),
        (KEY.jwk | {"kid": 7}, "its kid is not a text"),
        (KEY.jwk | {"use": "enc"}, "it is not for signatures"),
        (KEY.jwk | {"key_ops": ["encrypt"]}, "it is not for signatures"),
        (KEY.jwk | {"key_ops": 1}, "it is not for signatures"),
        (KEY.jwk | {"alg": "RS512"}, "it is for none of the issuer's algorithms"),
        (KEY.jwk | {"alg": "HS256"}, "it is for none of the issuer's algorithms"),
        (KEY.jwk | {"kty": "EC"}, "it is for none of the issuer's algorithms"),
        (KEY.jwk | {"kty": ["RSA"]}, "it is for none of the issuer's algorithms"),
        (KEY.jwk | {"d": "AQAB"}, "it is a secret or private key"),
        ({"kty": "oct", "k": "A" * 64, "kid": "s"}, "it is a secret or private key"),
        (WEAK.jwk, "its modulus has 1024 bits; 2048 to 8192 are taken"),
        (KEY.jwk | {"n": number(3 * rsa_key("k1").public_key().public_numbers().n << 6200)}, "bits; 2048 to 8192"),
        (without(KEY.jwk, "n"), "its members are not complete"),
        (KEY.jwk | {"e": 65537}, "its members are not complete"),
        (KEY.jwk | {"e": "AQ"}, "its numbers make no key"),
        (KEY.jwk | {"e": "Ag"}, "its numbers make no key"),
        (KEY.jwk | {"n": "AAAA"}, "its numbers make no key"),
        (EC.jwk | {"x": _POINT, "y": _POINT}, "its numbers make no key"),
        (EC.jwk | {"y": "AQ"}, "its numbers make no key"),
        (EC.jwk | {"crv": "P-384", "alg": "ES384"}, "its numbers make no key"),
        (without(EC.jwk, "alg") | {"crv": "secp256k1"}, "it is for none of the issuer's algorithms"),
        (ED.jwk | {"x": "AQ"}, "its numbers make no key"),
        (ED.jwk | {"crv": "X25519"}, "it is for none of the issuer's algorithms"),
    ],
)
def test_a_key_that_cannot_be_used_is_left_out_and_no_other(entry: object, why: str) -> None:
    good = SigningKey("good", "Ed25519")
    found = parsed(entry, good.jwk)
    assert [key.kid for key in found.keys] == ["good"]
    assert len(found.skipped) == 1
    assert found.skipped[0].startswith("keys[0]: ")
    assert why in found.skipped[0]
    with pytest.raises(KeysError, match="no key that can be used"):
        parsed(entry)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "no JWK set"),
        (b"<html>", "no JWK set"),
        (b"[]", "no JWK set"),
        (b"{}", 'no list "keys"'),
        (b'{"keys":{}}', 'no list "keys"'),
        (b'{"keys":[]}', "it is empty"),
        (b'{"keys":[],"keys":[]}', "a member is there twice"),
        (b'{"keys":[' + b"[" * 3000 + b"]" * 3000 + b"]}", "no JWK set"),
        (b" " * (MOST_BYTES + 1), "larger than"),
        (json.dumps({"keys": [KEY.jwk] * (MOST_KEYS + 1)}).encode(), "more than 100 keys"),
    ],
)
def test_what_is_no_key_set(data: bytes, why: str) -> None:
    with pytest.raises(KeysError, match=why):
        parse_set(data, ALL)


def test_without_a_kid_so_many_keys_are_tried_and_no_more() -> None:
    entries = [SigningKey(f"k{at}", "ES256").jwk for at in range(MOST_TRIED + 3)]
    assert len(parsed(*entries).candidates(None, "ES256")) == MOST_TRIED
    # Nor for a name that many keys have.
    alike = [SigningKey("k", "ES256").jwk for _ in range(MOST_TRIED + 3)]
    assert len(parsed(*alike).candidates("k", "ES256")) == MOST_TRIED


def test_two_keys_of_one_name_are_told_apart_by_their_algorithm() -> None:
    found = parsed(KEY.jwk, EC.jwk | {"kid": "k1"})
    assert [len(found.candidates("k1", algorithm)) for algorithm in ("RS256", "ES256")] == [1, 1]


def test_what_changes_about_a_key_makes_it_another() -> None:
    before = parsed(KEY.jwk).fingerprints
    assert parsed(KEY.jwk, EC.jwk).fingerprints > before
    assert parsed(KEY.jwk | {"x5t": "AQAB"}).fingerprints == before
    for changed in (KEY.jwk | {"kid": "x"}, SigningKey("k9").jwk | {"kid": "k1"}, without(KEY.jwk, "alg")):
        assert parsed(changed).fingerprints.isdisjoint(before)


@pytest.mark.parametrize(
    ("data", "algorithms", "why"),
    [
        (b"", ("HS256",), "has 0 bytes"),
        (b"x" * 31, ("HS256",), "has 31 bytes, and HS256 needs 32"),
        (b"x" * 31 + b"\r\n", ("HS256",), "has 31 bytes"),
        (b"x" * 47, ("HS256", "HS384"), "HS384 needs 48"),
        (b"x" * 63, ("HS512",), "HS512 needs 64"),
        (KEY.pem, ("HS256",), "no secret"),
    ],
)
def test_a_secret_that_is_none(data: bytes, algorithms: tuple[str, ...], why: str) -> None:
    with pytest.raises(KeysError, match=why):
        secret_set(data, algorithms)


def test_a_secret_for_one_algorithm_has_no_name_and_no_repr_that_shows_it() -> None:
    found = secret_set(b"correct horse battery staple, and more\n", ["HS256"])
    assert len(found.candidates("whatever", "HS256")) == 1
    assert found.candidates(None, "RS256") == []
    assert "horse" not in repr(found.keys)

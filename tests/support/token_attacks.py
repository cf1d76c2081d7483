"""Texts that somebody might show in place of a token, with what is wrong with each."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.support.issuer import AUDIENCE, ISSUER, SigningKey, b64, claims, hs256_with, token

KEY = SigningKey("k1")
OTHER = SigningKey("k2")
EC = SigningKey("e1", "ES256")

_MODULUS = KEY.jwk["n"].encode()
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551.to_bytes(32, "big")
"""Of P-256: a signature with it as a number would be one with zero."""


def attacks(now: float) -> dict[str, tuple[str, str]]:
    """By name: the text, and its flaw at the instant `now` for who takes RS256 and ES256 of `KEY` and `EC`."""
    now = int(now)

    def says(**changed: Any) -> dict[str, Any]:
        return claims(now, **changed)

    def made(
        key: SigningKey,
        what: Mapping[str, Any] | str | None = None,
        *,
        header: Mapping[str, Any] | str | None = None,
        sign: Callable[[bytes], bytes] | None = None,
    ) -> str:
        return token(key, says() if what is None else what, header, sign=sign)

    return {
        # What is no token.
        "one part": ("x", "malformed"),
        "two parts": ("a.b", "malformed"),
        "four parts": ("AAAA.AAAA.AAAA.AAAA", "malformed"),
        "five parts": (".".join(["AAAA"] * 5), "encrypted"),
        "five parts with an empty one": ("AAAA..AAAA.AAAA.AAAA", "encrypted"),
        "padding": (f"{made(KEY)}=", "malformed"),
        "standard base64": (made(KEY).replace("_", "/").replace("-", "+") + "+", "malformed"),
        "blank within": (made(KEY).replace(".", ". ", 1), "malformed"),
        "bits that nobody reads": (made(KEY, sign=lambda _: b"")[:-1] + ".AB", "malformed"),
        "not ASCII": (f"é{made(KEY)}", "malformed"),
        "empty header": (f".{b64(b'{}')}.AAAA", "malformed"),
        "header that is no JSON": (made(KEY, header="nothing"), "malformed"),
        "header that is a list": (made(KEY, header="[]"), "malformed"),
        "payload that is no object": (made(KEY, "1"), "malformed"),
        "payload that is not UTF-8": (".".join([*made(KEY).split(".")[:1], b64(b'{"a":"\xff"}'), "AAAA"]), "malformed"),
        "payload with something behind it": (made(KEY, json.dumps(says()) + "{}"), "malformed"),
        "duplicate member": (made(KEY, '{"sub":"alice",' + json.dumps(says())[1:]), "malformed"),
        "duplicate member in the header": (made(KEY, header='{"alg":"none","alg":"RS256","kid":"k1"}'), "malformed"),
        "duplicate member within": (made(KEY, json.dumps(says())[:-1] + ',"a":{"b":1,"b":2}}'), "malformed"),
        "NaN": (made(KEY, json.dumps(says(exp=float("nan")))), "malformed"),
        "Infinity": (made(KEY, json.dumps(says(exp=float("inf")))), "malformed"),
        "deep": (made(KEY, '{"a":' + "[" * 2000 + "]" * 2000 + "}"), "malformed"),
        "a number of 5000 digits": (made(KEY, '{"exp":' + "9" * 5000 + "}"), "malformed"),
        "kid that is no text": (made(KEY, header={"kid": 1}), "malformed"),
        "long kid": (made(KEY, header={"kid": "k" * 300}), "malformed"),
        "typ that is no text": (made(KEY, header={"typ": ["JWT"]}), "malformed"),
        "too long": (made(KEY, says(more="x" * 9000)), "too_long"),
        "escaped duplicate member": (made(KEY, '{"\\u0073ub":"admin",' + json.dumps(says())[1:]), "malformed"),
        "null for a critical extension": (made(KEY, header='{"alg":"RS256","kid":"k1","crit":null}'), "critical"),
        "byte order mark": (made(KEY, "\ufeff" + json.dumps(says())), "malformed"),
        "a token as payload": (made(KEY, json.dumps(made(KEY))), "malformed"),
        "JSON serialization": ('{"payload":"AAAA","protected":"AAAA","signature":"AAAA"}', "malformed"),
        "in quotes": (f'"{made(KEY)}"', "malformed"),
        "two with a comma": (f"{made(KEY)},{made(KEY)}", "malformed"),
        "two with a blank": (f"{made(KEY)} {made(KEY)}", "malformed"),
        "a dot behind it": (f"{made(KEY)}.", "malformed"),
        "deep header": (made(KEY, header='{"alg":"RS256","a":' + "[" * 2000 + "]" * 2000 + "}"), "malformed"),
        "alg that is a list": (made(KEY, header={"alg": ["RS256"]}), "malformed"),
        "exp with a zero in front": (made(KEY, json.dumps(says(exp=0)).replace(": 0,", f": 0{now},")), "malformed"),
        # Headers.
        "none": (made(KEY, header={"alg": "none"}, sign=lambda _: b""), "algorithm"),
        "None": (made(KEY, header={"alg": "nOnE"}, sign=lambda _: b""), "algorithm"),
        "no alg": (made(KEY, header={"alg": None}), "algorithm"),
        "alg in lower case": (made(KEY, header={"alg": "rs256"}), "algorithm"),
        "alg with a blank": (made(KEY, header={"alg": "RS256 "}), "algorithm"),
        "alg in wide letters": (made(KEY, header={"alg": "ＲＳ256"}), "algorithm"),  # noqa: RUF001 - that is the trick
        "modulus as a secret": (made(KEY, header={"alg": "HS256"}, sign=hs256_with(_MODULUS)), "algorithm"),
        "alg of the other kind": (made(KEY, header={"alg": "RS512"}), "algorithm"),
        "public key as a secret": (made(KEY, header={"alg": "HS256"}, sign=hs256_with(KEY.pem)), "algorithm"),
        "crit": (made(KEY, header={"crit": ["exp"]}), "critical"),
        "empty crit": (made(KEY, header={"crit": []}), "critical"),
        "payload that is not encoded": (made(KEY, header={"b64": False}), "critical"),
        "a token within": (made(KEY, header={"cty": "JWT"}), "encrypted"),
        "packed": (made(KEY, header={"zip": "DEF"}), "encrypted"),
        "kid of another kind of key": (made(KEY, header={"kid": "e1"}), "key"),
        "kid that is a path": (made(KEY, header={"kid": "../../dev/null"}), "key"),
        "kid that is an injection": (made(KEY, header={"kid": "k1' OR '1'='1"}), "key"),
        "kid with NUL": (made(KEY, header={"kid": "k1\0"}), "key"),
        "kid in another case": (made(KEY, header={"kid": "K1"}), "key"),
        "kid that is percent-encoded": (made(KEY, header={"kid": "%6b1"}), "key"),
        "empty kid": (made(KEY, header={"kid": ""}), "key"),
        # Keys that the token itself brings are not looked at, so the signature is that of a stranger.
        "jwk": (made(OTHER, header={"kid": "k1", "jwk": OTHER.jwk}), "signature"),
        "jku": (made(OTHER, header={"kid": "k1", "jku": "https://evil.example/jwks"}), "signature"),
        "x5u": (made(OTHER, header={"kid": "k1", "x5u": "https://evil.example/x5u"}), "signature"),
        "x5c": (made(OTHER, header={"kid": "k1", "x5c": ["MIIB"]}), "signature"),
        "signed by another": (made(OTHER, header={"kid": "k1"}), "signature"),
        "signed by another, no kid": (made(OTHER, header={"kid": None}), "signature"),
        "no signature": (made(KEY, sign=lambda _: b""), "signature"),
        "PSS in place of PKCS 1": (made(KEY, sign=lambda signed: KEY.sign(signed, "PS256")), "signature"),
        "jwk without kid": (made(OTHER, header={"kid": None, "jwk": OTHER.jwk}), "signature"),
        "order of the curve": (made(EC, sign=lambda _: _ORDER * 2), "signature"),
        "numbers that are too long": (made(EC, sign=lambda signed: b"\0" + EC.sign(signed)), "signature"),
        "zeros of ECDSA": (made(EC, sign=lambda _: bytes(64)), "signature"),
        "DER in place of numbers": (made(EC, sign=lambda _: b"\x30\x06\x02\x01\x01\x02\x01\x01"), "signature"),
        # Claims.
        "no iss": (made(KEY, says(iss=None)), "issuer"),
        "other iss": (made(KEY, says(iss="https://evil.example/")), "issuer"),
        "iss without its slash": (made(KEY, says(iss=ISSUER.rstrip("/"))), "issuer"),
        "iss with NUL": (made(KEY, says(iss=f"{ISSUER}\0")), "issuer"),
        "iss that is a list": (made(KEY, says(iss=[ISSUER])), "issuer"),
        "no aud": (made(KEY, says(aud=None)), "audience"),
        "other aud": (made(KEY, says(aud="orders2")), "audience"),
        "aud that has ours in it": (made(KEY, says(aud=f"{AUDIENCE} other")), "audience"),
        "empty aud": (made(KEY, says(aud=[])), "audience"),
        "aud in a list in a list": (made(KEY, says(aud=[[AUDIENCE]])), "audience"),
        "aud that is an object": (made(KEY, says(aud={AUDIENCE: 1})), "audience"),
        "aud for all": (made(KEY, says(aud="*")), "audience"),
        "aud in another case": (made(KEY, says(aud=AUDIENCE.upper())), "audience"),
        "aud of numbers": (made(KEY, says(aud=[1, None, {}])), "audience"),
        "no exp": (made(KEY, says(exp=None)), "times"),
        "exp that is null": (made(KEY, json.dumps(says() | {"exp": None})), "times"),
        "exp as text": (made(KEY, says(exp=str(now + 600))), "times"),
        "exp that is true": (made(KEY, says(exp=True)), "times"),
        "exp that is negative": (made(KEY, says(exp=-1)), "times"),
        "exp that is infinite": (made(KEY, json.dumps(says(exp=0)).replace('"exp": 0', '"exp": 1e400')), "times"),
        "exp beyond all years": (made(KEY, says(exp=10**20)), "times"),
        "exp with 4000 digits": (made(KEY, says(exp=10**4000)), "times"),
        "exp that is a fraction and past": (made(KEY, says(exp=now - 60.5)), "expired"),
        "nbf that is null": (made(KEY, json.dumps(says() | {"nbf": None})), "times"),
        "nbf that is negative": (made(KEY, says(nbf=-1)), "times"),
        "nbf as text": (made(KEY, says(nbf="0")), "times"),
        "iat that is an object": (made(KEY, says(iat={})), "times"),
        "expired": (made(KEY, says(exp=now - 61)), "expired"),
        "expired, and signed by nobody": (made(KEY, says(exp=now - 61), sign=lambda _: b""), "expired"),
        "nbf in the future": (made(KEY, says(nbf=now + 3600)), "not_yet"),
        "iat in the future": (made(KEY, says(iat=now + 3600)), "not_yet"),
        "no sub": (made(KEY, says(sub=None)), "claims"),
        "empty sub": (made(KEY, says(sub="")), "claims"),
        "sub that is a list": (made(KEY, says(sub=["alice"])), "claims"),
        "sub that is true": (made(KEY, says(sub=True)), "claims"),
        "sub that is a fraction": (made(KEY, says(sub=1.5)), "claims"),
        "sub of 4000 digits": (made(KEY, says(sub=10**4000)), "claims"),
        "long sub": (made(KEY, says(sub="a" * 300)), "claims"),
        "half of a character": (made(KEY, json.dumps(says(sub="?")).replace("?", "\\ud800")), "claims"),
    }

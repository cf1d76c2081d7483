"""Issuers of JSON Web Tokens: keys, tokens as they should be and as nobody should take them, and a server for the keys.

Tokens are put together by hand, because a library would refuse to make most of the bad ones.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from tests.support.certificates import Certificate
from tests.support.ports import free_port

ISSUER = "https://login.example/"
AUDIENCE = "orders"
NOW = 1_900_000_000
"""The wall clock of unit tests."""
_CURVES: dict[str, tuple[type[ec.EllipticCurve], type[hashes.HashAlgorithm], int]] = {
    "ES256": (ec.SECP256R1, hashes.SHA256, 32),
    "ES384": (ec.SECP384R1, hashes.SHA384, 48),
    "ES512": (ec.SECP521R1, hashes.SHA512, 66),
}
_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "256": hashes.SHA256,
    "384": hashes.SHA384,
    "512": hashes.SHA512,
}
_NAMES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int, size: int | None = None) -> str:
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


@lru_cache
def rsa_key(which: str = "a", bits: int = 2048) -> rsa.RSAPrivateKey:
    """The same key for the same word: to make one takes a while."""
    return rsa.generate_private_key(65537, bits)


class SigningKey:
    """A key that signs with `algorithm`, and its public half as a JWK."""

    def __init__(self, kid: str | None, algorithm: str = "RS256", *, bits: int = 2048, secret: bytes = b"") -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.secret = secret
        self._bits = bits
        self._ec = ec.generate_private_key(_CURVES[algorithm][0]()) if algorithm in _CURVES else None
        self._ed = ed25519.Ed25519PrivateKey.generate() if algorithm in {"EdDSA", "Ed25519"} else None

    @property
    def _rsa(self) -> rsa.RSAPrivateKey | None:
        # Made when it is needed: every process of tests imports the modules that have such keys.
        return rsa_key(str(self.kid), self._bits) if self.algorithm[:2] in {"RS", "PS"} else None

    @property
    def jwk(self) -> dict[str, Any]:
        """The public key; a secret has none."""
        made: dict[str, Any] = {"use": "sig", "alg": self.algorithm}
        if self.kid is not None:
            made["kid"] = self.kid
        if self._rsa is not None:
            numbers = self._rsa.public_key().public_numbers()
            return made | {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        if self._ec is not None:
            point, size = self._ec.public_key().public_numbers(), _CURVES[self.algorithm][2]
            curve = _NAMES[self.algorithm]
            return made | {"kty": "EC", "crv": curve, "x": number(point.x, size), "y": number(point.y, size)}
        assert self._ed is not None
        return made | {"kty": "OKP", "crv": "Ed25519", "x": b64(self._ed.public_key().public_bytes_raw())}

    def sign(self, signed: bytes, algorithm: str | None = None) -> bytes:
        name = algorithm or self.algorithm
        if self._ec is not None:
            _, digest, size = _CURVES[name]
            r, s = decode_dss_signature(self._ec.sign(signed, ec.ECDSA(digest())))
            return r.to_bytes(size, "big") + s.to_bytes(size, "big")
        if self._ed is not None:
            return self._ed.sign(signed)
        if self._rsa is not None:
            digest = _HASHES[name[2:]]
            if name.startswith("PS"):
                pss = padding.PSS(padding.MGF1(digest()), padding.PSS.DIGEST_LENGTH)
                return self._rsa.sign(signed, pss, digest())
            return self._rsa.sign(signed, padding.PKCS1v15(), digest())
        return hmac.digest(self.secret, signed, f"sha{name[2:]}")

    @property
    def pem(self) -> bytes:
        """The public RSA key as PEM: what a confused gateway would take for the secret of HS256."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        assert self._rsa is not None
        return self._rsa.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def claims(now: float = NOW, **changed: Any) -> dict[str, Any]:
    """Good ones; a claim that is None is left out."""
    made = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "exp": int(now) + 600,
        "iat": int(now),
        "scope": "read write",
    } | changed
    return {name: value for name, value in made.items() if value is not None}


def token(
    key: SigningKey,
    says: Mapping[str, Any] | str | None = None,
    header: Mapping[str, Any] | str | None = None,
    *,
    sign: Callable[[bytes], bytes] | None = None,
) -> str:
    """A token. `says` and `header` may be texts, to be taken as they are; a member of the header that is None is left
    out."""
    if not isinstance(header, str):
        members = {"alg": key.algorithm, "kid": key.kid, "typ": "JWT"} | dict(header or {})
        header = json.dumps({name: value for name, value in members.items() if value is not None})
    payload = says if isinstance(says, str) else json.dumps(claims() if says is None else says)
    signed = f"{b64(header.encode())}.{b64(payload.encode())}".encode()
    return f"{signed.decode()}.{b64((sign or key.sign)(signed))}"


def hs256_with(secret: bytes) -> Callable[[bytes], bytes]:
    return lambda signed: hmac.digest(secret, signed, hashlib.sha256)


def jwks(*keys: SigningKey) -> dict[str, Any]:
    return {"keys": [key.jwk for key in keys]}


class IssuerServer:
    """Serves a key set in a thread of its own. `answer` says what comes next and may be replaced at any time."""

    def __init__(self, *keys: SigningKey, tls: Certificate | None = None) -> None:
        self.port = free_port()
        self._tls = tls
        self.fetches = 0
        self.answer: Callable[[web.Request], Any] = self.serving(*keys)
        self._loop: asyncio.AbstractEventLoop
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="issuer", daemon=True)

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/jwks"

    def __enter__(self) -> Self:
        # Not before: an issuer that a test never starts has nothing to close.
        self._loop = asyncio.new_event_loop()
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(30)

    @staticmethod
    def serving(*keys: SigningKey) -> Callable[[web.Request], Any]:
        """The keys."""
        document = json.dumps(jwks(*keys)).encode()
        return lambda _: web.Response(body=document, content_type="application/jwk-set+json")

    @staticmethod
    def saying(body: bytes, status: int = 200, **headers: str) -> Callable[[web.Request], Any]:
        """Anything."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return lambda _: web.Response(body=body, status=status, headers=fields)

    @staticmethod
    def slow(_: web.Request) -> Any:
        """An answer that does not come."""
        return asyncio.sleep(3600)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.fetches += 1
        answered = self.answer(request)
        if asyncio.iscoroutine(answered):
            answered = await answered
        assert isinstance(answered, web.StreamResponse)
        return answered

    def _run(self) -> None:
        async def serve() -> web.AppRunner:
            app = web.Application()
            app.router.add_get("/{any:.*}", self._handle)
            runner = web.AppRunner(app, shutdown_timeout=0.1)
            await runner.setup()
            context = None
            if self._tls is not None:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain(self._tls.cert, self._tls.key)
            await web.TCPSite(runner, "127.0.0.1", self.port, reuse_address=True, ssl_context=context).start()
            return runner

        asyncio.set_event_loop(self._loop)
        runner = self._loop.run_until_complete(serve())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()


def now() -> int:
    return int(time.time())

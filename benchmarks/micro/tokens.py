"""What a JSON Web Token costs: one that is known, and one that has to be checked, beside its signature alone."""

import json
import time
from collections.abc import Iterator

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.utils import base64url_decode

from benchmarks.micro.timing import Case
from gateway.config.sections.identity.model import AllowConfig, IdentityConfig
from gateway.config.sections.issuers.model import IssuerConfig
from gateway.identity.credentials import CredentialReader
from gateway.identity.issuer_keys import IssuerKeys
from gateway.identity.keys import KeyRing
from gateway.identity.tenants import Directory
from gateway.identity.tokens import Issuer, Tokens, Verified
from gateway.jose.jwk import parse_set
from gateway.proxy.gate import PASS
from gateway.proxy.gates.authentication import AuthenticationGate, AuthenticationParts
from gateway.proxy.requests.identity import Origin
from gateway.proxy.ticket import Ticket
from gateway.telemetry.metrics.route_cells import RouteCells
from gateway.telemetry.record import LogPart, RouteAccount
from gateway.wire.message import request as requests

_HEADER = "X-API-Key"
_ISSUER = "https://login.example.com/"
_ACCEPTED = frozenset({"login"})


class _Side:
    """What a gateway with one issuer has."""

    def __init__(self) -> None:
        self.rsa = rsa.generate_private_key(65537, 2048)
        self.ec = ec.generate_private_key(ec.SECP256R1())
        directory = Directory(IdentityConfig(), {})
        keys = IssuerKeys(expire=True)
        public = [RSAAlgorithm.to_jwk(self.rsa.public_key(), as_dict=True) | {"kid": "r"}]
        public += [ECAlgorithm.to_jwk(self.ec.public_key(), as_dict=True) | {"kid": "e"}]
        keys.succeeded(parse_set(json.dumps({"keys": public}).encode(), ("RS256", "ES256")), 600.0)
        config = IssuerConfig("login", _ISSUER, ("orders",), ("RS256", "ES256"))
        self.tokens = Tokens([Issuer(config, keys)], directory, frozenset({"orders:read"}))
        self.reader = CredentialReader(_HEADER)
        ring = KeyRing([], directory, None)
        self.parts = AuthenticationParts(self.reader, ring, _HEADER, self.tokens)

    def token(self, algorithm: str) -> str:
        now = int(time.time())
        claims = {"iss": _ISSUER, "aud": "orders", "sub": "auth0|0123456789abcdef", "iat": now, "exp": now + 86_400}
        claims |= {"scope": "orders:read orders:write", "azp": "web", "jti": "0af7651916cd43dd8448eb211c80319c"}
        key = self.rsa if algorithm == "RS256" else self.ec
        return jwt.encode(claims, key, algorithm, headers={"kid": "r" if algorithm == "RS256" else "e"})

    def gate(self) -> AuthenticationGate:
        return AuthenticationGate(("jwt",), AllowConfig(), self.parts)


def cases() -> Iterator[tuple[str, Case]]:
    side = _Side()
    token = side.token("RS256")
    yield "token: read", _read(side, f"Authorization: Bearer {token}")
    yield "token: hot", _hot(side, token)
    yield "token: known, new head", _new_head(side, token)
    for algorithm in ("RS256", "ES256"):
        yield f"token: check, {algorithm}", _check(side, algorithm)
        yield f"token: its signature alone, {algorithm}", _signature(side, algorithm)


def _request(line: str) -> requests.Request:
    block = f"Host: a\r\nAccept: */*\r\nUser-Agent: bench\r\n{line}\r\n\r\n".encode()
    return requests.Request("GET", b"/orders/1", 1, requests.parse_fields(block, requests.Limits()))


def _ticket(request: requests.Request) -> Ticket:
    account = RouteAccount("orders", "orders", RouteCells())
    return Ticket(request, Origin("203.0.113.7", b"", "http"), account, LogPart({}), b"r", time.monotonic())


def _read(side: _Side, line: str) -> Case:
    lines = _request(line).fields.lines
    return lambda: side.reader.read(lines)


def _hot(side: _Side, token: str) -> Case:
    """The client repeats its head, so that its credential was read before."""
    gate, ticket = side.gate(), _ticket(_request(f"Authorization: Bearer {token}"))
    # The second time it is known.
    if any(gate.check(ticket) is not PASS for _ in range(2)):
        raise RuntimeError("the token that was to pass does not")
    return lambda: gate.check(ticket)


def _new_head(side: _Side, token: str) -> Case:
    gate, ticket = side.gate(), _ticket(_request(f"Authorization: Bearer {token}"))

    def check() -> None:
        ticket.request.credential = None
        gate.check(ticket)

    return check


def _check(side: _Side, algorithm: str) -> Case:
    presented = side.reader.read(_request(f"Authorization: Bearer {side.token(algorithm)}").fields.lines)
    good = isinstance(side.tokens.check(presented, _ACCEPTED), Verified)
    if not good:
        raise RuntimeError("the token that was to pass does not")
    return lambda: side.tokens.check(presented, _ACCEPTED)


def _signature(side: _Side, algorithm: str) -> Case:
    signed, _, signature = side.token(algorithm).rpartition(".")
    usable = side.tokens.issuers["login"].keys.usable(time.monotonic())
    if usable is None:
        raise RuntimeError("there are no keys")
    [verify] = usable.candidates("r" if algorithm == "RS256" else "e", algorithm)
    text, octets = signed.encode(), base64url_decode(signature)
    if not verify(text, octets):
        raise RuntimeError("the signature that was to match does not")
    return lambda: verify(text, octets)

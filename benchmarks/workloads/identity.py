"""What it costs to know who asks: an API key and a token that come again and again, and tokens that nobody has seen."""

import hashlib
import json
import time
from contextlib import ExitStack
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from benchmarks.load.wrk import Load
from benchmarks.observations import CPU, VS_FORWARDING, Observations
from benchmarks.peers import gateway
from benchmarks.session import Session
from benchmarks.workloads.base import Workload

_KEY = f"gw_benchmark0001_{'A' * 43}"
_ISSUER = "https://login.example.com/"
# More than a gateway remembers: each comes again only after it was forgotten.
_NEW = 25_000
_ANYBODY, _HOT_KEY, _HOT_TOKEN, _NEW_TOKENS = "no authentication", "hot API key", "hot token", "new tokens (ES256)"


def _run(session: Session, observations: Observations) -> None:
    directory = session.rig.directory
    key = ec.generate_private_key(ec.SECP256R1())
    public = ECAlgorithm.to_jwk(key.public_key(), as_dict=True) | {"kid": "k"}
    (directory / "jwks.json").write_text(json.dumps({"keys": [public]}))
    tokens = [_token(key, number) for number in range(_NEW)]
    loads = {
        _ANYBODY: Load("/open/ok"),
        _HOT_KEY: _load(directory, "/keys/ok", "key", [f"X-API-Key: {_KEY}"]),
        _HOT_TOKEN: _load(directory, "/tokens/ok", "hot", [f"Authorization: Bearer {tokens[0]}"]),
        _NEW_TOKENS: _load(directory, "/tokens/ok", "new", [f"Authorization: Bearer {each}" for each in tokens]),
    }
    peer = gateway("gateway-identity", routes=_routes(session.rig.upstream_url), redis=False)
    with ExitStack() as stack:
        [proxy] = session.start((peer,), stack)
        for round_number in session.rounds(min(3, session.plan.rounds)):
            for case, load in loads.items():
                result = session.measure(observations, case, proxy, round_number, load)
                if result is not None and result.refused:
                    session.note(f"identity: {result.refused} of {result.requests} were refused ({case})")
    observations.relate(CPU, VS_FORWARDING, (_ANYBODY, peer.name))


def _routes(upstream: str) -> object:
    route = {"upstream": "bench", "rate_limit": None}
    return {
        "upstreams": {"bench": {"endpoints": [upstream]}},
        "consumers": {"web": {"keys": [{"id": "benchmark0001", "sha256": hashlib.sha256(_KEY.encode()).hexdigest()}]}},
        "issuers": {"login": {"issuer": _ISSUER, "audience": "bench", "algorithms": "ES256", "jwks_file": "jwks.json"}},
        "routes": [
            route | {"name": "open", "prefix": "/open"},
            route | {"name": "keys", "prefix": "/keys", "authentication": "api_key"},
            route | {"name": "tokens", "prefix": "/tokens", "authentication": "jwt"},
        ],
    }


def _token(key: ec.EllipticCurvePrivateKey, number: int) -> str:
    now = int(time.time())
    claims = {"iss": _ISSUER, "aud": "bench", "sub": f"user-{number % 100}", "iat": now, "exp": now + 86_400}
    return jwt.encode(claims | {"jti": str(number), "scope": "orders:read"}, key, "ES256", headers={"kid": "k"})


def _load(directory: Path, target: str, name: str, lines: list[str]) -> Load:
    file = directory / f"{name}.txt"
    file.write_text("\n".join(lines) + "\n")
    return Load(target, scripts=("bearer.lua",), arguments=(str(file),))


IDENTITY = Workload("identity", "who asks: what do an API key and a token cost?", _run)

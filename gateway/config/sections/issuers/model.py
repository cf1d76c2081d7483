"""Issuers of tokens in the effective configuration (see `gateway.config.model`)."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class IssuerConfig:
    """Whom the gateway believes who somebody is: what signs JSON Web Tokens (RFC 7519) with one of `algorithms`, and is
    called `issuer` in them.

    Exactly one of `jwks_url`, `jwks_file` and `secret_file` says where the keys are. `ca_file` has the authorities for
    the URL, None for those of the system; `refresh` is the seconds between two fetches. A token needs one of
    `audience`, or must have none where that is empty, one of the values of each of `required_claims`, and `typ` where
    that is set. Its times may be wrong by `skew` seconds.

    `consumer`, `tenant_claim` and `scopes` name claims (`gateway.identity.claims`); `consumer_prefix` is put in front
    of the first. `tenant` is that of all tokens of this issuer. `fields` are header fields for the upstream, each with
    a claim.
    """

    name: str
    issuer: str
    audience: tuple[str, ...]
    algorithms: tuple[str, ...]
    jwks_url: str | None = None
    jwks_file: str | None = None
    secret_file: str | None = None
    ca_file: str | None = None
    refresh: float = 600.0
    typ: str | None = None
    required_claims: tuple[tuple[str, frozenset[str]], ...] = ()
    skew: float = 60.0
    max_token_bytes: int = 8192
    consumer: str = "sub"
    consumer_prefix: str = ""
    tenant: str | None = None
    tenant_claim: str | None = None
    scopes: str = "scope"
    fields: tuple[tuple[str, str], ...] = ()

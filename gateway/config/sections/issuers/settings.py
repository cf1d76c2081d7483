"""The section `issuers` of the YAML file: whose tokens say who asks, and what their claims mean."""

import json
import re
from typing import Annotated, Literal, get_args

from annotated_types import Interval, Len
from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from gateway.config.declaring import addresses
from gateway.config.declaring.field_types import FileName, Name, WebhookUrl
from gateway.config.declaring.section import Allowed, Bytes, Meaning, Seconds, Section

_TEXT = re.compile(r"[!-~]{1,512}")
_TEXT_ALLOWED = "1 to 512 visible ASCII characters"
_AUDIENCE_ALLOWED = f"a list of at least one audience, each {_TEXT_ALLOWED}; or none"
_CLAIM = re.compile(r"[^\x00-\x1f\x7f]{1,256}")
_CLAIM_ALLOWED = "the name of a claim, or a JSON pointer such as /realm_access/roles"
_REQUIRED_ALLOWED = "claims, each with the value that it must have or a list of those that it may have"
_PREFIX = re.compile(r"[A-Za-z0-9_.:@/-]{0,64}")
_PREFIX_ALLOWED = 'up to 64 letters, digits and _ . : @ / -; "" for none'
_TYPE = re.compile(r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+/-]{0,63}")
_TYPE_ALLOWED = "a type such as at+jwt"
_FIELD = re.compile(r"(?:X|Remote)-[A-Za-z0-9-]{1,60}", re.IGNORECASE)
_SET = re.compile(r"x-(forwarded-.*|real-ip|request-id|correlation-id|tenant|consumer)", re.IGNORECASE)
_FIELDS_ALLOWED = "names that begin with X- or Remote- and that the gateway does not set itself, each with a claim"

# The names of `gateway.jose.algorithms`, which a test compares.
# fmt: off
SignatureAlgorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
    "HS256", "HS384", "HS512",
]
# fmt: on
ALGORITHM_ALLOWED = f"a list of {', '.join(get_args(SignatureAlgorithm))}"


def _listed(value: object) -> object:
    """One value may be written in place of a list of it."""
    return [value] if isinstance(value, str | bool | int) else value


def _audience(value: object) -> object:
    """`none` is a list of nothing. An empty list, as a template leaves it that came out empty, is a mistake."""
    return [] if value == "none" else addresses.reject(_AUDIENCE_ALLOWED) if value == [] else _listed(value)


def _values(value: object) -> object:
    """Numbers and booleans are compared as JSON writes them."""
    if not isinstance(value, list) or not all(isinstance(each, str | bool | int) for each in value):
        addresses.reject(_REQUIRED_ALLOWED)
    return [each if isinstance(each, str) else json.dumps(each) for each in value]


def _required(values: dict[str, list[str]]) -> dict[str, list[str]]:
    good = all(_CLAIM.fullmatch(claim) and each for claim, each in values.items())
    return values if good else addresses.reject(_REQUIRED_ALLOWED)


def _text(text: str) -> str:
    return text if _TEXT.fullmatch(text) else addresses.reject(_TEXT_ALLOWED)


def _claim(text: str) -> str:
    return text if _CLAIM.fullmatch(text) else addresses.reject(_CLAIM_ALLOWED)


def _prefix(text: str) -> str:
    return text if _PREFIX.fullmatch(text) else addresses.reject(_PREFIX_ALLOWED)


def _type(text: str) -> str:
    return text if _TYPE.fullmatch(text) else addresses.reject(_TYPE_ALLOWED)


def _fields(fields: dict[str, str]) -> dict[str, str]:
    for name, claim in fields.items():
        if _FIELD.fullmatch(name) is None or _SET.fullmatch(name) or _CLAIM.fullmatch(claim) is None:
            addresses.reject(_FIELDS_ALLOWED)
    if len({name.lower() for name in fields}) < len(fields):
        addresses.reject("each field once, whatever its case")
    return fields


Text = Annotated[str, AfterValidator(_text), Allowed(_TEXT_ALLOWED)]
Claim = Annotated[str, AfterValidator(_claim), Allowed(_CLAIM_ALLOWED)]


_SCALAR = {"type": ["string", "boolean", "integer"]}
Values = Annotated[
    list[str],
    BeforeValidator(_values),
    BeforeValidator(_listed),
    Allowed(_REQUIRED_ALLOWED),
    WithJsonSchema({"anyOf": [_SCALAR, {"type": "array", "items": _SCALAR, "minItems": 1}]}),
]


class FileClaims(Section):
    """Which claims of a token say who asks."""

    consumer: Annotated[Claim, Meaning("The claim that says who asks")] = "sub"
    tenant: Annotated[
        Claim | None, Meaning("The claim that says whose tenant asks, which each token must have then", "none")
    ] = None
    scopes: Annotated[Claim, Meaning("The claim with the scopes, as one text with blanks or as a list")] = "scope"


class FileIssuer(Section):
    """One issuer of tokens."""

    issuer: Annotated[Text, Meaning("What its tokens have as `iss`")]
    audience: Annotated[
        list[Text],
        BeforeValidator(_audience),
        Len(0, 100),
        Allowed(_AUDIENCE_ALLOWED),
        Field(json_schema_extra={"minItems": 1}),
        Meaning("Tokens for one of these (`aud`) count, with `none` those without. One needs no list"),
    ]
    algorithms: Annotated[
        list[Annotated[SignatureAlgorithm, Allowed(ALGORITHM_ALLOWED)]],
        BeforeValidator(_listed),
        Len(1, 20),
        Allowed(ALGORITHM_ALLOWED),
        Meaning("With which it signs. A token with another one does not count"),
    ]
    jwks_url: Annotated[
        WebhookUrl | None,
        Meaning("Where its public keys are (RFC 7517): `https`, or `http` on this machine", "one of three"),
    ] = None
    jwks_file: Annotated[
        FileName | None, Meaning("A file with its public keys, read again when it changes", "see `jwks_url`")
    ] = None
    secret_file: Annotated[
        FileName | None, Meaning("A file with the secret of HS256 or its like, read when it changes", "see `jwks_url`")
    ] = None
    ca_file: Annotated[FileName | None, Meaning("CA certificates (PEM) for the URL", "those of the system")] = None
    allow_http: Annotated[
        bool, Meaning("Take keys from an `http` URL of another machine, as whoever is between wishes")
    ] = False
    refresh: Annotated[Seconds, Interval(ge=10, le=86_400), Meaning("Between two fetches of the keys")] = 600.0
    typ: Annotated[
        Annotated[str, AfterValidator(_type), Allowed(_TYPE_ALLOWED)] | None,
        Allowed(_TYPE_ALLOWED),
        Meaning("The type that tokens must have, such as `at+jwt` (RFC 9068)", "any"),
    ] = None
    skew: Annotated[Seconds, Interval(ge=0, le=300), Meaning("By how much the clock of the issuer may be wrong")] = 60.0
    max_token_bytes: Annotated[Bytes, Interval(ge=256, le=65_536), Meaning("Longer tokens do not count")] = 8192
    required_claims: Annotated[
        dict[str, Values],
        AfterValidator(_required),
        Allowed(_REQUIRED_ALLOWED),
        Meaning("What tokens must say besides, such as `token_use: access`", "nothing"),
    ] = Field(default_factory=dict)
    consumer_prefix: Annotated[
        Annotated[str, AfterValidator(_prefix), Allowed(_PREFIX_ALLOWED)] | None,
        Allowed(_PREFIX_ALLOWED),
        Meaning("Put in front of `claims.consumer`", "the issuer's name and `:`"),
    ] = None
    tenant: Annotated[Name | None, Meaning("The tenant of all its tokens", "none")] = None
    claims: FileClaims = FileClaims()
    fields: Annotated[
        dict[str, str],
        AfterValidator(_fields),
        Allowed(_FIELDS_ALLOWED),
        Meaning("Header fields for the upstream, each with the claim that it is made from", "none"),
    ] = Field(default_factory=dict)

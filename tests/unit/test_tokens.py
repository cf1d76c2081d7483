"""JSON Web Tokens: who is taken for whom, and that no trick of RFC 8725 and its like is taken for a token."""

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from gateway.config.identity_model import ConsumerConfig, IdentityConfig, IssuerConfig, TierConfig
from gateway.config.issuer_file import SignatureAlgorithm
from gateway.identity.credentials import CredentialReader, Presented
from gateway.identity.issuer_keys import IssuerKeys
from gateway.identity.tenants import Directory
from gateway.identity.tokens import FLAWS, FRESH, Issuer, Judgement, NotNow, Pending, Tokens, Verified
from gateway.jose.algorithms import ALGORITHMS, SYMMETRIC
from gateway.jose.jwk import parse_set, secret_set
from tests.support.issuer import (
    AUDIENCE,
    ISSUER,
    NOW,
    SigningKey,
    b64,
    claims,
    hs256_with,
    jwks,
    token,
)
from tests.support.tickets import request

KEY = SigningKey("k1")
OTHER = SigningKey("k2")
EC = SigningKey("e1", "ES256")
SECRET = b"0123456789abcdef0123456789abcdef"
IDENTITY = IdentityConfig(
    MappingProxyType({"alice": ConsumerConfig("alice", "acme")}),
    MappingProxyType({"acme": "gold"}),
    MappingProxyType({"gold": TierConfig("gold")}),
)
READER = CredentialReader("X-API-Key")


def shown(text: str) -> Presented:
    return READER.read(request(b"/", f"Authorization: Bearer {text}").fields.lines)


class Checks:
    """Tokens of one issuer, `login`, on clocks that the test moves; `keys` None: not fetched yet."""

    def __init__(self, keys: tuple[SigningKey, ...] | None = (KEY, EC), *, most: int = 1000, **settings: Any) -> None:
        self.now = 100.0
        self.wall = float(NOW)
        given = {"algorithms": ("RS256", "ES256"), "consumer_prefix": "login:"} | settings
        config = IssuerConfig("login", ISSUER, (AUDIENCE, "other"), **given)
        self.keys = IssuerKeys(expire=True, clock=lambda: self.now)
        self.issuer = Issuer(config, self.keys)
        self.tokens = Tokens(
            [self.issuer],
            Directory(IDENTITY, {}),
            frozenset({"read", "admin"}),
            lambda: self.now,
            lambda: self.wall,
            most,
        )
        if keys is not None:
            self.learn(*keys)

    def learn(self, *keys: SigningKey) -> None:
        if keys and keys[0].secret:
            self.keys.succeeded(secret_set(keys[0].secret, self.issuer.config.algorithms), 600.0)
        else:
            document = json.dumps(jwks(*keys)).encode()
            self.keys.succeeded(parse_set(document, self.issuer.config.algorithms), 600.0)

    def check(self, text: str, *accepted: str, waited: bool = False) -> Judgement:
        return self.tokens.check(shown(text), frozenset(accepted or ("login",)), waited=waited)

    def good(self, text: str) -> Verified:
        judgement = self.check(text)
        assert isinstance(judgement, Verified), judgement
        return judgement


def test_a_good_token_says_who_asks_of_which_scopes_the_routes_know() -> None:
    checks = Checks()
    found = checks.good(token(KEY))
    assert (found.caller.consumer, found.caller.tenant) == ("login:alice", "")
    assert found.caller.scopes == {"read"}
    assert found.lines == b"X-Consumer: login:alice\r\n"
    assert checks.issuer.outcomes["verified"] == 1


@pytest.mark.parametrize("algorithm", sorted(ALGORITHMS))
def test_every_algorithm_that_may_be_configured(algorithm: str) -> None:
    key = SigningKey("k", algorithm, secret=SECRET * 2 if algorithm in SYMMETRIC else b"")
    checks = Checks((key,), algorithms=(algorithm,))
    good = token(key)
    assert checks.good(good).caller.consumer == "login:alice"
    head, payload, signature = good.split(".")
    octets = bytearray(base64.urlsafe_b64decode(signature + "=="))
    octets[len(octets) // 2] ^= 1
    assert checks.check(f"{head}.{payload}.{b64(bytes(octets))}") == "signature"
    assert checks.check(f"{head}.{payload}.{b64(bytes(octets[:-1]))}") == "signature"
    assert checks.check(f"{head}.{payload}.") == "signature"


def test_the_file_knows_the_algorithms_that_there_are_and_none_is_not_one() -> None:
    assert set(SignatureAlgorithm.__args__) == ALGORITHMS.keys()  # type: ignore[attr-defined]  # of a Literal
    assert not {name for name in ALGORITHMS if name.lower() == "none"}
    assert {"HS256", "HS384", "HS512"} == SYMMETRIC


ATTACKS: dict[str, tuple[str, str]] = {
    # What is no token.
    "one part": ("x", "malformed"),
    "two parts": ("a.b", "malformed"),
    "four parts": ("AAAA.AAAA.AAAA.AAAA", "malformed"),
    "five parts": (".".join(["AAAA"] * 5), "encrypted"),
    "five parts with an empty one": ("AAAA..AAAA.AAAA.AAAA", "encrypted"),
    "padding": (f"{token(KEY)}=", "malformed"),
    "standard base64": (token(KEY).replace("_", "/").replace("-", "+") + "+", "malformed"),
    "blank within": (token(KEY).replace(".", ". ", 1), "malformed"),
    "bits that nobody reads": (token(KEY, sign=lambda _: b"")[:-1] + ".AB", "malformed"),
    "not ASCII": (f"é{token(KEY)}", "malformed"),
    "empty header": (f".{b64(b'{}')}.AAAA", "malformed"),
    "header that is no JSON": (token(KEY, header="nothing"), "malformed"),
    "header that is a list": (token(KEY, header="[]"), "malformed"),
    "payload that is no object": (token(KEY, "1"), "malformed"),
    "payload that is not UTF-8": (".".join([*token(KEY).split(".")[:1], b64(b'{"a":"\xff"}'), "AAAA"]), "malformed"),
    "payload with something behind it": (token(KEY, json.dumps(claims()) + "{}"), "malformed"),
    "duplicate member": (token(KEY, '{"sub":"alice",' + json.dumps(claims())[1:]), "malformed"),
    "duplicate member in the header": (token(KEY, header='{"alg":"none","alg":"RS256","kid":"k1"}'), "malformed"),
    "duplicate member within": (token(KEY, json.dumps(claims())[:-1] + ',"a":{"b":1,"b":2}}'), "malformed"),
    "NaN": (token(KEY, json.dumps(claims(exp=float("nan")))), "malformed"),
    "Infinity": (token(KEY, json.dumps(claims(exp=float("inf")))), "malformed"),
    "deep": (token(KEY, '{"a":' + "[" * 2000 + "]" * 2000 + "}"), "malformed"),
    "a number of 5000 digits": (token(KEY, '{"exp":' + "9" * 5000 + "}"), "malformed"),
    "kid that is no text": (token(KEY, header={"kid": 1}), "malformed"),
    "long kid": (token(KEY, header={"kid": "k" * 300}), "malformed"),
    "typ that is no text": (token(KEY, header={"typ": ["JWT"]}), "malformed"),
    "too long": (token(KEY, claims(more="x" * 9000)), "too_long"),
    # Headers.
    "none": (token(KEY, header={"alg": "none"}, sign=lambda _: b""), "algorithm"),
    "None": (token(KEY, header={"alg": "nOnE"}, sign=lambda _: b""), "algorithm"),
    "no alg": (token(KEY, header={"alg": None}), "algorithm"),
    "alg in lower case": (token(KEY, header={"alg": "rs256"}), "algorithm"),
    "alg of the other kind": (token(KEY, header={"alg": "RS512"}), "algorithm"),
    "public key as a secret": (token(KEY, header={"alg": "HS256"}, sign=hs256_with(KEY.pem)), "algorithm"),
    "crit": (token(KEY, header={"crit": ["exp"]}), "critical"),
    "empty crit": (token(KEY, header={"crit": []}), "critical"),
    "payload that is not encoded": (token(KEY, header={"b64": False}), "critical"),
    "a token within": (token(KEY, header={"cty": "JWT"}), "encrypted"),
    "packed": (token(KEY, header={"zip": "DEF"}), "encrypted"),
    "kid of another kind of key": (token(KEY, header={"kid": "e1"}), "key"),
    "kid that is a path": (token(KEY, header={"kid": "../../dev/null"}), "key"),
    "kid that is an injection": (token(KEY, header={"kid": "k1' OR '1'='1"}), "key"),
    "empty kid": (token(KEY, header={"kid": ""}), "key"),
    # Keys that the token itself brings are not looked at, so the signature is that of a stranger.
    "jwk": (token(OTHER, header={"kid": "k1", "jwk": OTHER.jwk}), "signature"),
    "jku": (token(OTHER, header={"kid": "k1", "jku": "https://evil.example/jwks"}), "signature"),
    "x5u": (token(OTHER, header={"kid": "k1", "x5u": "https://evil.example/x5u"}), "signature"),
    "x5c": (token(OTHER, header={"kid": "k1", "x5c": ["MIIB"]}), "signature"),
    "signed by another": (token(OTHER, header={"kid": "k1"}), "signature"),
    "signed by another, no kid": (token(OTHER, header={"kid": None}), "signature"),
    "no signature": (token(KEY, sign=lambda _: b""), "signature"),
    "zeros of ECDSA": (token(EC, sign=lambda _: bytes(64)), "signature"),
    "DER in place of numbers": (token(EC, sign=lambda _: b"\x30\x06\x02\x01\x01\x02\x01\x01"), "signature"),
    # Claims.
    "no iss": (token(KEY, claims(iss=None)), "issuer"),
    "other iss": (token(KEY, claims(iss="https://evil.example/")), "issuer"),
    "iss without its slash": (token(KEY, claims(iss=ISSUER.rstrip("/"))), "issuer"),
    "iss that is a list": (token(KEY, claims(iss=[ISSUER])), "issuer"),
    "no aud": (token(KEY, claims(aud=None)), "audience"),
    "other aud": (token(KEY, claims(aud="orders2")), "audience"),
    "aud that has ours in it": (token(KEY, claims(aud=f"{AUDIENCE} other")), "audience"),
    "empty aud": (token(KEY, claims(aud=[])), "audience"),
    "aud of numbers": (token(KEY, claims(aud=[1, None, {}])), "audience"),
    "no exp": (token(KEY, claims(exp=None)), "times"),
    "exp that is null": (token(KEY, json.dumps(claims() | {"exp": None})), "times"),
    "exp as text": (token(KEY, claims(exp=str(NOW + 600))), "times"),
    "exp that is true": (token(KEY, claims(exp=True)), "times"),
    "exp that is negative": (token(KEY, claims(exp=-1)), "times"),
    "exp that is infinite": (token(KEY, json.dumps(claims(exp=0)).replace('"exp": 0', '"exp": 1e400')), "times"),
    "exp beyond all years": (token(KEY, claims(exp=10**20)), "times"),
    "exp with 4000 digits": (token(KEY, claims(exp=10**4000)), "times"),
    "nbf as text": (token(KEY, claims(nbf="0")), "times"),
    "iat that is an object": (token(KEY, claims(iat={})), "times"),
    "expired": (token(KEY, claims(exp=NOW - 61)), "expired"),
    "expired, and signed by nobody": (token(KEY, claims(exp=NOW - 61), sign=lambda _: b""), "expired"),
    "nbf in the future": (token(KEY, claims(nbf=NOW + 61)), "not_yet"),
    "iat in the future": (token(KEY, claims(iat=NOW + 61)), "not_yet"),
    "no sub": (token(KEY, claims(sub=None)), "claims"),
    "empty sub": (token(KEY, claims(sub="")), "claims"),
    "sub that is a list": (token(KEY, claims(sub=["alice"])), "claims"),
    "sub that is true": (token(KEY, claims(sub=True)), "claims"),
    "long sub": (token(KEY, claims(sub="a" * 300)), "claims"),
    "half of a character": (token(KEY, json.dumps(claims(sub="?")).replace("?", "\\ud800")), "claims"),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_trick_is_taken_for_a_token(attack: str) -> None:
    checks = Checks()
    text, flaw = ATTACKS[attack]
    # An unknown key asks for a fetch first; this is what comes of it when nothing new is there.
    assert checks.check(text, waited=True) == flaw
    assert checks.tokens.known(shown(text), checks.now) is None
    assert len(checks.tokens) == 0


def test_each_flaw_has_an_attack_and_a_sentence_that_fits_into_a_challenge() -> None:
    assert {flaw for _, flaw in ATTACKS.values()} | {"type"} == FLAWS.keys()
    for words in FLAWS.values():
        assert words.isprintable()
        assert not set(words) & set('"\\')


def test_a_public_key_is_no_secret_even_where_hmac_is_configured() -> None:
    for data in (KEY.pem, b"ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABAQ" + b"A" * 100):
        with pytest.raises(ValueError, match="no secret"):
            secret_set(data, ["HS256"])


@pytest.mark.parametrize(
    ("changed", "wall"),
    [
        ({"exp": NOW - 59}, NOW),
        ({"nbf": NOW + 59}, NOW),
        ({"iat": NOW + 60, "nbf": NOW - 100}, NOW),
        ({"iat": None}, NOW),
        ({"exp": NOW + 0.5, "iat": NOW - 0.5}, NOW),
        ({"aud": ["x", "other"]}, NOW),
        ({"sub": 4711}, NOW),
    ],
)
def test_what_is_still_good(changed: Mapping[str, Any], wall: float) -> None:
    assert Checks().good(token(KEY, claims(**changed))).caller.consumer in {"login:alice", "login:4711"}


def test_keys_without_a_name_and_tokens_without_one() -> None:
    assert Checks().good(token(KEY, header={"kid": None}))
    unnamed = SigningKey(None)
    assert Checks((unnamed,)).good(token(unnamed))
    assert Checks((unnamed,)).good(token(unnamed, header={"kid": "whatever"}))
    assert Checks((KEY, unnamed)).check(token(unnamed, header={"kid": "k1"})) == "signature"


@pytest.mark.parametrize(
    ("typ", "flaw"),
    [("at+jwt", None), ("AT+JWT", None), ("application/at+jwt", None), ("JWT", "type"), (None, "type"), ("", "type")],
)
def test_a_type_that_is_configured_is_compared_without_case(typ: str | None, flaw: str | None) -> None:
    judgement = Checks(typ="at+jwt").check(token(KEY, header={"typ": typ}))
    assert judgement == flaw if flaw else isinstance(judgement, Verified)


@pytest.mark.parametrize(
    ("settings", "changed", "found"),
    [
        ({}, {}, ("login:alice", "")),
        # Without a prefix the name is that of a consumer of the file, with its tenant.
        ({"consumer_prefix": ""}, {}, ("alice", "acme")),
        ({"tenant": "umbrella"}, {"org": "acme"}, ("login:alice", "umbrella")),
        ({"tenant_claim": "org"}, {"org": "acme"}, ("login:alice", "acme")),
        ({"tenant_claim": "org"}, {"org": 42}, ("login:alice", "42")),
        ({"tenant_claim": "org"}, {}, None),
        ({"tenant_claim": "org"}, {"org": "a b"}, None),
        ({"tenant_claim": "org"}, {"org": "acme\r\nX-Tenant: evil"}, None),
        ({"tenant_claim": "/a/b~1c"}, {"a": {"b/c": "acme"}}, ("login:alice", "acme")),
        ({"tenant_claim": "/a/b"}, {"a": "b"}, None),
        ({"consumer": "https://x/azp"}, {"https://x/azp": "web"}, ("login:web", "")),
        ({}, {"sub": "a b\r\nX-Tenant: evil"}, ("login:a%20b%0D%0AX-Tenant:%20evil", "")),
        ({}, {"sub": "jörg%41"}, ("login:j%C3%B6rg%2541", "")),
    ],
)
def test_claims_say_who_it_is_and_whose(
    settings: dict[str, Any], changed: dict[str, Any], found: tuple[str, str] | None
) -> None:
    judgement = Checks(**settings).check(token(KEY, claims(**changed)))
    if found is None:
        assert judgement == "claims"
        return
    assert isinstance(judgement, Verified)
    assert (judgement.caller.consumer, judgement.caller.tenant) == found
    assert judgement.lines.count(b"\r\n") == 1 + bool(found[1])


@pytest.mark.parametrize(
    ("claim", "value", "found"),
    [
        ("scope", "read admin other", {"read", "admin"}),
        ("scope", ["read", 1, None], {"read"}),
        ("scope", "", set()),
        ("scope", "readadmin", set()),
        ("scope", {"read": True}, set()),
        ("/realm/roles", "read", set()),
    ],
)
def test_scopes_are_a_text_or_a_list(claim: str, value: object, found: set[str]) -> None:
    checks = Checks(scopes=claim)
    assert checks.good(token(KEY, claims(scope=value))).caller.scopes == found


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("a@b.example", b"X-Mail: a@b.example\r\n"),
        ("Jörg B", b"X-Mail: J%C3%B6rg B\r\n"),
        (" a ", b"X-Mail: %20a%20\r\n"),
        ("a\r\nX-Tenant: evil", b"X-Mail: a%0D%0AX-Tenant: evil\r\n"),
        (["a,b", "c"], b"X-Mail: a%2Cb,c\r\n"),
        ([], b""),
        ({"a": 1}, b""),
        (None, b""),
        (True, b"X-Mail: true\r\n"),
        (12.5, b"X-Mail: 12.5\r\n"),
    ],
)
def test_a_claim_becomes_a_field_of_one_line(value: object, line: bytes) -> None:
    checks = Checks(fields=(("X-Mail", "mail"), ("X-Gone", "gone")))
    assert checks.good(token(KEY, claims(mail=value))).lines == b"X-Consumer: login:alice\r\n" + line


def test_a_field_that_no_upstream_would_take_makes_the_token_unusable() -> None:
    checks = Checks(fields=(("X-Mail", "mail"),))
    assert checks.check(token(KEY, claims(mail="é" * 700))) == "claims"


def test_what_was_checked_is_known_for_a_minute_and_never_beyond_its_expiry() -> None:
    checks = Checks()
    long, short = token(KEY), token(KEY, claims(exp=NOW + 10))
    first = checks.good(long)
    checks.good(short)
    for text in (long, short):
        assert checks.tokens.known(shown(text), checks.now) is not None
    assert checks.tokens.known(shown(long), checks.now) is first
    checks.wall += 70
    # The clock of the wall alone has moved: the skew is over for the short one.
    assert checks.tokens.known(shown(short), checks.now) is None
    assert checks.check(short) == "expired"
    assert checks.tokens.known(shown(long), checks.now) is first
    checks.now += FRESH
    assert checks.tokens.known(shown(long), checks.now) is None
    assert checks.issuer.outcomes["verified"] == 2


def test_a_change_of_one_character_is_another_token() -> None:
    checks = Checks()
    good = token(KEY)
    checks.good(good)
    assert checks.tokens.known(shown(good[:-2] + ("AA" if good[-2:] != "AA" else "BA")), checks.now) is None


def test_so_many_are_known_and_the_one_used_longest_ago_goes_first() -> None:
    checks = Checks(most=2)
    texts = [token(KEY, claims(jti=str(at))) for at in range(3)]
    for text in texts[:2]:
        checks.good(text)
    assert checks.tokens.known(shown(texts[0]), checks.now) is not None
    checks.good(texts[2])
    assert [checks.tokens.known(shown(text), checks.now) is not None for text in texts] == [True, False, True]


def test_a_key_that_is_gone_ends_what_it_has_signed_and_a_new_one_ends_nothing() -> None:
    checks = Checks((KEY,))
    old = token(KEY)
    checks.good(old)
    checks.learn(KEY, OTHER)
    assert checks.tokens.known(shown(old), checks.now) is not None
    checks.learn(OTHER)
    assert checks.tokens.known(shown(old), checks.now) is None
    assert checks.check(old, waited=True) == "key"
    assert checks.good(token(OTHER))


def test_a_known_token_of_an_issuer_counts_only_where_the_route_takes_it() -> None:
    checks = Checks()
    assert checks.check(token(KEY), "staff") == "issuer"
    assert checks.good(token(KEY)).issuer == "login"


def test_before_the_first_keys_a_token_waits_and_after_a_failure_it_is_told_when_to_come_back() -> None:
    checks = Checks(None)
    checks.keys.begun()
    assert isinstance(checks.check(token(KEY)), Pending)
    checks.keys.failed("timeout", "no answer", 7.0)
    judgement = checks.check(token(KEY))
    assert isinstance(judgement, NotNow)
    assert judgement.retry_after == 7.0
    checks.now += 3.0
    judgement = checks.check(token(KEY), waited=True)
    assert isinstance(judgement, NotNow)
    assert judgement.retry_after == 4.0
    checks.learn(KEY)
    assert checks.good(token(KEY))


def test_an_unknown_key_asks_for_a_fetch_once_a_minute() -> None:
    checks = Checks((KEY,))
    asked: list[int] = []
    checks.keys.wake = lambda: asked.append(1)
    text = token(OTHER)
    assert isinstance(checks.check(text), Pending)
    assert isinstance(checks.check(text), Pending)
    assert asked == [1]
    checks.learn(KEY)
    assert checks.check(text) == "key"
    checks.now += 59.0
    assert checks.check(text) == "key"
    checks.now += 2.0
    assert isinstance(checks.check(text), Pending)
    # The issuer is away, and known keys go on. Nobody knows about the unknown one.
    checks.keys.failed("unreachable", "away", 5.0)
    assert checks.good(token(KEY))
    assert isinstance(checks.check(text), NotNow)
    checks.learn(KEY, OTHER)
    assert checks.good(text)
    assert len(asked) == 2


def test_keys_of_an_issuer_that_is_away_are_good_for_a_day() -> None:
    checks = Checks((KEY,))
    checks.keys.failed("unreachable", "away", 60.0)
    checks.now += 86_399.0
    assert checks.good(token(KEY))
    checks.now += 2.0
    assert isinstance(checks.check(token(KEY)), NotNow)


def test_strangers_are_counted_and_nothing_that_is_shown_is_in_a_repr() -> None:
    checks = Checks()
    checks.check("x")
    checks.check(token(KEY, claims(iss="https://evil.example/")))
    assert {flaw: count for flaw, count in checks.tokens.strangers.items() if count} == {"malformed": 1, "issuer": 1}
    text = token(KEY)
    found = checks.good(text)
    for each in (shown(text), found, checks.tokens, checks.keys):
        assert not any(part in repr(each) for part in text.split("."))

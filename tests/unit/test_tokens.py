"""JSON Web Tokens: who is taken for whom, and that no trick of RFC 8725 and its like is taken for a token."""

import base64
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import pytest

from gateway.config.sections.identity.model import ConsumerConfig, IdentityConfig, TierConfig
from gateway.config.sections.issuers.model import IssuerConfig
from gateway.config.sections.issuers.settings import SignatureAlgorithm
from gateway.identity.credentials import CredentialReader, Presented
from gateway.identity.issuer_keys import IssuerKeys
from gateway.identity.tenants import Directory
from gateway.identity.tokens import FLAWS, FRESH, Issuer, NotNow, Pending, TokenJudgement, Tokens, Verified
from gateway.jose.algorithms import ALGORITHMS, SYMMETRIC
from gateway.jose.jwk import parse_set, secret_set
from tests.support.issuer import (
    AUDIENCE,
    ISSUER,
    NOW,
    SigningKey,
    b64,
    claims,
    jwks,
    token,
)
from tests.support.tickets import request
from tests.support.token_attacks import EC, KEY, OTHER, attacks

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
        given: dict[str, Any] = {"audience": (AUDIENCE, "other"), "algorithms": ("RS256", "ES256")} | settings
        config = IssuerConfig("login", ISSUER, **{"consumer_prefix": "login:"} | given)
        self.keys = IssuerKeys(expire=not (keys and keys[0].secret), clock=lambda: self.now)
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

    def check(self, text: str, *accepted: str, waited: bool = False) -> TokenJudgement:
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
    assert checks.check(f"{head}.{payload}.{b64(bytes(octets))}", waited=True) == "signature"
    assert checks.check(f"{head}.{payload}.{b64(bytes(octets[:-1]))}", waited=True) == "signature"
    assert checks.check(f"{head}.{payload}.", waited=True) == "signature"


def test_the_file_knows_the_algorithms_that_there_are_and_none_is_not_one() -> None:
    assert set(SignatureAlgorithm.__args__) == ALGORITHMS.keys()  # type: ignore[attr-defined]  # of a Literal
    assert not {name for name in ALGORITHMS if name.lower() == "none"}
    assert {"HS256", "HS384", "HS512"} == SYMMETRIC


def test_a_token_may_be_without_audience_where_that_is_configured_and_then_must_be() -> None:
    """Of an access token of Amazon Cognito `client_id` says whom it is for, and `token_use` that it is one."""
    required = (("client_id", frozenset({"app", "other"})), ("token_use", frozenset({"access"})))
    checks = Checks(audience=(), required_claims=required)
    good = claims(aud=None, client_id="app", token_use="access")
    assert checks.good(token(KEY, good)).caller.consumer == "login:alice"
    assert checks.check(token(KEY, good | {"aud": AUDIENCE})) == "audience"
    assert checks.check(token(KEY, json.dumps(good | {"aud": None}))) == "audience"
    for wrong in ({"client_id": "application"}, {"client_id": None}, {"token_use": "id"}, {"token_use": {"access": 1}}):
        assert checks.check(token(KEY, json.dumps(good | wrong))) == "required_claims", wrong
    del good["client_id"]
    assert checks.check(token(KEY, good)) == "required_claims"
    # Nobody learns without a good signature which claims those are.
    assert checks.check(token(OTHER, good, header={"kid": "k1"}), waited=True) == "signature"


def test_required_claims_are_looked_for_in_lists_and_compared_as_json_writes_them() -> None:
    checks = Checks(required_claims=(("/realm/roles", frozenset({"api"})), ("email_verified", frozenset({"true"}))))
    assert checks.good(token(KEY, claims(realm={"roles": ["x", "api"]}, email_verified=True)))
    assert checks.check(token(KEY, claims(realm={"roles": ["x"]}, email_verified=True))) == "required_claims"
    assert checks.check(token(KEY, claims(realm={"roles": []}, email_verified=True))) == "required_claims"
    assert checks.check(token(KEY, claims(realm={"roles": "api"}, email_verified=False))) == "required_claims"
    assert checks.check(token(KEY, claims(email_verified=True))) == "required_claims"


ATTACKS = attacks(NOW)


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_trick_is_taken_for_a_token(attack: str) -> None:
    checks = Checks()
    text, flaw = ATTACKS[attack]
    # An unknown key asks for a fetch first; this is what comes of it when nothing new is there.
    assert checks.check(text, waited=True) == flaw
    assert checks.tokens.known(shown(text), checks.now) is None
    assert len(checks.tokens) == 0


def test_each_flaw_has_an_attack_and_a_sentence_that_fits_into_a_challenge() -> None:
    assert {flaw for _, flaw in ATTACKS.values()} | {"type", "required_claims"} == FLAWS.keys()
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


@pytest.mark.parametrize(("changed", "flaw"), [({"exp": NOW - 60}, "expired"), ({"nbf": NOW + 60.5}, "not_yet")])
def test_what_is_beyond_the_skew_by_the_least(changed: Mapping[str, Any], flaw: str) -> None:
    assert Checks().check(token(KEY, claims(**changed))) == flaw


def test_keys_without_a_name_and_tokens_without_one() -> None:
    assert Checks().good(token(KEY, header={"kid": None}))
    unnamed = SigningKey(None)
    assert Checks((unnamed,)).good(token(unnamed))
    assert Checks((unnamed,)).good(token(unnamed, header={"kid": "whatever"}))
    assert Checks((KEY, unnamed)).check(token(unnamed, header={"kid": "k1"}), waited=True) == "signature"


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
        # Fullwidth, with a mark that normalises away, with a width of zero: none of them is acme, nor is another case.
        ({"tenant_claim": "org"}, {"org": "\uff41cme"}, None),
        ({"tenant_claim": "org"}, {"org": "a\u0301cme"}, None),
        ({"tenant_claim": "org"}, {"org": "acme\u200b"}, None),
        ({"tenant_claim": "org"}, {"org": "../acme"}, None),
        ({"tenant_claim": "org"}, {"org": ["acme"]}, None),
        ({"tenant_claim": "org"}, {"org": "ACME"}, ("login:alice", "ACME")),
        ({"tenant_claim": "/a/b~1c"}, {"a": {"b/c": "acme"}}, ("login:alice", "acme")),
        ({"tenant_claim": "/a/b"}, {"a": "b"}, None),
        ({"consumer": "https://x/azp"}, {"https://x/azp": "web"}, ("login:web", "")),
        ({}, {"sub": "a b\r\nX-Tenant: evil"}, ("login:a%20b%0D%0AX-Tenant:%20evil", "")),
        ({}, {"sub": "jörg%41"}, ("login:j%C3%B6rg%2541", "")),
        ({}, {"sub": " {a} "}, ("login:%20%7Ba%7D%20", "")),
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
        ("  ", b"X-Mail: %20%20\r\n"),
        ('{"a": 1}', b'X-Mail: {"a": 1}\r\n'),
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


@pytest.mark.parametrize(
    ("old", "new", "header"),
    [
        (SigningKey(None), SigningKey(None, "ES256"), {}),
        (SigningKey(None), SigningKey(None, "ES256"), {"kid": "new"}),
        (EC, SigningKey("e2", "ES256"), {"kid": None}),
        # An issuer may give a new key the name of the one before.
        (EC, SigningKey("e1", "ES256"), {"kid": "e1"}),
    ],
)
def test_a_signature_that_no_key_has_made_asks_for_a_fetch_once_a_minute(
    old: SigningKey, new: SigningKey, header: Mapping[str, Any]
) -> None:
    """A rotation that no `kid` tells of is seen by its first signature."""
    before = SigningKey(None, "ES256")
    checks = Checks((old, before))
    asked: list[int] = []
    checks.keys.wake = lambda: asked.append(1)
    text = token(new, header=header)
    assert isinstance(checks.check(text), Pending)
    checks.learn(old, new)
    assert checks.good(text)
    # What nobody of the issuer has signed costs one fetch, and then it is just wrong.
    wrong = token(before, header=header)
    assert checks.check(wrong) == "signature"
    checks.now += 61.0
    assert isinstance(checks.check(wrong), Pending)
    assert isinstance(checks.check(wrong), Pending)
    assert checks.check(wrong, waited=True) == "signature"
    # It has cost a signature check, so it counts as a failure also where the issuer does not answer.
    checks.keys.failed("unreachable", "away", 5.0)
    assert checks.check(wrong) == "signature"
    assert len(asked) == 2


def test_a_request_that_fails_when_it_is_told_takes_no_other_with_it(caplog: pytest.LogCaptureFixture) -> None:
    checks = Checks(None)
    checks.keys.begun()
    told: list[int] = []

    def fails() -> None:
        raise RuntimeError("a defect")

    assert checks.keys.wait(fails)
    assert checks.keys.wait(lambda: told.append(1))
    checks.learn(KEY)
    assert told == [1]
    assert "telling of the keys" in caplog.text


def test_so_many_wait_and_no_more() -> None:
    checks = Checks(None)
    assert not checks.keys.wait(lambda: None)
    checks.keys.begun()
    assert sum(checks.keys.wait(lambda: None) for _ in range(1100)) == 1000


def test_keys_of_an_issuer_that_is_away_are_good_for_a_day() -> None:
    checks = Checks((KEY,))
    checks.keys.failed("unreachable", "away", 60.0)
    checks.now += 86_399.0
    assert checks.good(token(KEY))
    checks.now += 2.0
    assert isinstance(checks.check(token(KEY)), NotNow)


def test_keys_that_are_handed_on_are_as_old_as_when_they_were_fetched() -> None:
    first = Checks((KEY,))
    fetched_at, keys = first.now, first.keys.keys
    assert keys is not None
    successor = Checks(None)
    successor.now += 80_000.0
    assert successor.keys.adopt(keys, fetched_at)
    assert successor.good(token(KEY))
    assert successor.keys.age(successor.now) == 80_000.0
    assert successor.keys.outcomes["fetched"] == 0
    successor.keys.failed("unreachable", "away", 60.0)
    successor.now += 6_400.0
    assert successor.good(token(KEY, claims(jti="another")))
    successor.now += 1.0
    assert isinstance(successor.check(token(KEY)), NotNow)
    late = Checks(None)
    late.now += 86_401.0
    assert not late.keys.adopt(keys, fetched_at)
    assert late.keys.keys is None


def test_a_fetch_goes_before_what_was_handed_on() -> None:
    keys = Checks((KEY,)).keys.keys
    assert keys is not None
    successor = Checks(None)
    assert successor.keys.adopt(keys, successor.now - 10.0)
    old = token(KEY)
    successor.good(old)
    successor.learn(OTHER)
    assert successor.tokens.known(shown(old), successor.now) is None
    assert successor.check(old, waited=True) == "key"


def test_strangers_are_counted_and_nothing_that_is_shown_is_in_a_repr() -> None:
    checks = Checks()
    checks.check("x")
    checks.check(token(KEY, claims(iss="https://evil.example/")))
    assert {flaw: count for flaw, count in checks.tokens.strangers.items() if count} == {"malformed": 1, "issuer": 1}
    text = token(KEY)
    found = checks.good(text)
    for each in (shown(text), found, checks.tokens, checks.keys):
        assert not any(part in repr(each) for part in text.split("."))

"""The authentication gate on routes that take tokens: answers, attempts, what is beside a token, waiting."""

import json
from typing import Any

import pytest

from gateway.config.sections.identity.model import AllowConfig, ConsumerConfig, IdentityConfig, KeyConfig, Method
from gateway.config.sections.issuers.model import IssuerConfig
from gateway.identity.credentials import CredentialReader
from gateway.identity.issuer_keys import IssuerKeys
from gateway.identity.keys import KeyRing
from gateway.identity.tenants import Directory
from gateway.identity.tokens import Issuer, Tokens
from gateway.jose.jwk import parse_set
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.gate import PASS, WAIT, Question, Resumption
from gateway.proxy.gates.authentication import AuthenticationGate, AuthenticationParts
from gateway.proxy.ticket import Ticket
from tests.support.issuer import ISSUER, NOW, SigningKey, claims, jwks, token
from tests.support.keys import key, sha256
from tests.support.tickets import request, ticket

KEY = SigningKey("k1")
OTHER = SigningKey("k2")
API_KEY = key("abcdefgh1234")
GOOD = token(KEY)
CONSUMERS = {"web": ConsumerConfig("web", keys=(KeyConfig("abcdefgh1234", sha256(API_KEY)),))}
BOTH: tuple[Method, ...] = ("api_key", "jwt")
_MALFORMED = ', error="invalid_token", error_description="it is no signed JWT in compact form"'
_REALM = 'WWW-Authenticate: Bearer realm="gateway"'


class Side:
    """One gate, with everything that it looks at."""

    def __init__(
        self,
        methods: tuple[Method, ...] = ("jwt",),
        allow: AllowConfig | None = None,
        issuers: tuple[str, ...] = (),
        *,
        keys: bool = True,
    ) -> None:
        self.now = 0.0
        directory = Directory(IdentityConfig(consumers=CONSUMERS), {})
        self.keys = IssuerKeys(expire=True, clock=lambda: self.now)
        config = IssuerConfig("login", ISSUER, ("orders",), ("RS256",), fields=(("X-Mail", "mail"),))
        allow = allow or AllowConfig()
        self.tokens = Tokens([Issuer(config, self.keys)], directory, allow.scopes, lambda: self.now, lambda: float(NOW))
        ring = KeyRing(CONSUMERS.values(), directory, None)
        parts = AuthenticationParts(CredentialReader("X-API-Key"), ring, "X-API-Key", self.tokens)
        self.gate = AuthenticationGate(methods, allow, parts, issuers)
        if keys:
            self.learn(KEY)

    def learn(self, *known: SigningKey) -> None:
        self.keys.succeeded(parse_set(json.dumps(jwks(*known)).encode(), ["RS256"]), 600.0)

    def just_fetched(self) -> None:
        """No signature has the keys fetched again within this minute."""
        assert self.keys.wanted(self.now)
        self.learn(KEY)

    def asked(self, *lines: str, peer: str = "192.0.2.1") -> tuple[Ticket, Any]:
        made = ticket(request(b"/a", *lines), peer=peer)
        return made, self.gate.check(made)

    def refused(self, *lines: str, peer: str = "192.0.2.1") -> tuple[int, str, str]:
        return told(self.asked(*lines, peer=peer)[1])


def told(verdict: object) -> tuple[int, str, str]:
    assert isinstance(verdict, Refusal)
    return verdict.status, verdict.reason, verdict.extra.decode().removeprefix(_REALM).rstrip()


def bearer(text: str) -> str:
    return f"Authorization: Bearer {text}"


def test_a_good_token_passes_and_tells_the_upstream_and_the_log_who_it_is() -> None:
    side = Side()
    for _ in range(2):
        made, verdict = side.asked(bearer(token(KEY, claims(mail="a@b.example"))))
        assert verdict is PASS
        assert made.caller is not None
        assert made.caller_lines == b"X-Consumer: alice\r\nX-Mail: a@b.example\r\n"
        assert made.log_decisions == {"consumer": "alice"}
    assert side.gate.counts["allowed"] == 2
    assert len(side.tokens) == 1


@pytest.mark.parametrize(
    ("lines", "challenge"),
    [
        ([], ""),
        (["Authorization: Basic dTpw"], ""),
        (["Authorization: Bearer"], ""),
        ([bearer("x")], _MALFORMED),
        (
            [bearer(f"{GOOD}, Bearer {GOOD}")],
            _MALFORMED,
        ),
        (
            [bearer(token(OTHER, header={"kid": "k1"}))],
            ', error="invalid_token", error_description="the signature does not match"',
        ),
        ([bearer(token(KEY, claims(exp=1)))], ', error="invalid_token", error_description="it has expired"'),
        ([bearer(GOOD)] * 2, ', error="invalid_request"'),
        ([bearer(GOOD), "authorization:"], ', error="invalid_request"'),
        ([f"Authorization: Bearer\t{GOOD}"], ""),
        ([f"Cookie: access_token={GOOD}", f"Sec-WebSocket-Protocol: bearer, {GOOD}"], ""),
        ([f"Proxy-Authorization: Bearer {GOOD}", f"X-Forwarded-Authorization: Bearer {GOOD}"], ""),
        ([bearer(GOOD), "Authorization: Basic dTpw"], ', error="invalid_request"'),
        # A key is nothing on a route that takes none.
        ([bearer(API_KEY)], ', error="invalid_token"'),
        ([f"X-API-Key: {API_KEY}"], ', error="invalid_token"'),
    ],
)
def test_anything_else_is_unauthenticated_with_the_challenge_of_rfc_6750(lines: list[str], challenge: str) -> None:
    side = Side()
    side.just_fetched()
    assert side.refused(*lines) == (401, "unauthenticated", challenge)


def test_on_a_route_with_both_ways_either_is_enough_and_both_are_too_many() -> None:
    side = Side(BOTH)
    assert side.asked(f"X-API-Key: {API_KEY}")[1] is PASS
    assert side.asked(bearer(API_KEY))[1] is PASS
    assert side.asked(bearer(GOOD))[1] is PASS
    assert side.refused(bearer(GOOD), f"X-API-Key: {API_KEY}")[2] == ', error="invalid_request"'
    assert side.refused(bearer(GOOD), "X-API-Key: x")[2] == ', error="invalid_request"'
    verdict = side.asked()[1]
    assert isinstance(verdict, Refusal)
    assert "X-API-Key) or a JSON Web Token" in verdict.detail


def test_a_route_without_tokens_takes_none_and_leaves_the_one_beside_a_key_to_the_upstream() -> None:
    side = Side(("api_key",))
    assert side.refused(bearer(GOOD)) == (401, "unauthenticated", ', error="invalid_token"')
    assert side.asked(bearer(GOOD), f"X-API-Key: {API_KEY}")[1] is PASS


def test_a_route_without_keys_leaves_the_field_for_keys_to_the_upstream() -> None:
    side = Side()
    made, verdict = side.asked(bearer(GOOD), "X-API-Key: the upstream's own")
    assert verdict is PASS
    assert made.caller is not None
    assert made.caller.consumer == "alice"


def test_a_route_may_take_the_tokens_of_some_issuers_only_also_those_that_are_known() -> None:
    one, other = Side(issuers=("login",)), Side(issuers=("staff",))
    assert one.asked(bearer(GOOD))[1] is PASS
    assert other.refused(bearer(GOOD))[0] == 401
    other.tokens.check(one.asked(bearer(GOOD))[0].request.credential, frozenset({"login"}))  # type: ignore[arg-type]  # it is one
    assert len(other.tokens) == 1
    assert other.refused(bearer(GOOD))[2].endswith('"the route takes no tokens of this issuer"')


def test_failures_cost_the_address_its_attempts_before_any_signature_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    side = Side()
    side.just_fetched()
    assert side.asked(bearer(GOOD))[1] is PASS
    for at in range(10):
        bad = token(OTHER, claims(jti=str(at)), header={"kid": "k1"})
        assert side.refused(bearer(bad))[0] == 401
    before = dict(side.tokens.issuers["login"].outcomes)
    assert side.refused(bearer(token(KEY, claims(sub="bob"))))[:2] == (429, "too_many_attempts")
    assert side.tokens.issuers["login"].outcomes == before
    # What is known goes on, and others have attempts of their own.
    assert side.asked(bearer(GOOD))[1] is PASS
    assert side.asked(bearer(token(KEY, claims(sub="bob"))), peer="192.0.2.2")[1] is PASS


def test_an_expired_token_costs_no_attempt() -> None:
    side = Side()
    for _ in range(30):
        assert side.refused(bearer(token(KEY, claims(exp=NOW - 3600))))[0] == 401
    assert side.asked(bearer(GOOD))[1] is PASS
    assert side.gate.counts["invalid"] == 30


def test_a_scope_that_lacks_is_named_with_403() -> None:
    side = Side(allow=AllowConfig(scopes=frozenset({"admin", "read"})))
    assert side.refused(bearer(GOOD)) == (403, "forbidden", ', error="insufficient_scope", scope="admin read"')
    assert side.asked(bearer(token(KEY, claims(scope="read admin x"))))[1] is PASS
    named = Side(allow=AllowConfig(consumers=frozenset({"bob"})))
    assert named.refused(bearer(GOOD)) == (403, "forbidden", "")


def test_a_request_waits_for_the_first_keys_and_for_those_of_a_rotation() -> None:
    side = Side(keys=False)
    side.keys.begun()
    made, verdict = side.asked(bearer(GOOD))
    answers: list[Resumption] = []
    assert verdict is WAIT
    side.gate.start(made, answers.append)
    assert answers == []
    side.learn(KEY)
    assert answers == [PASS]
    assert made.caller is not None
    made, verdict = side.asked(bearer(token(OTHER)))
    assert verdict is WAIT
    side.gate.start(made, answers.append)
    side.learn(OTHER)
    assert answers == [PASS, PASS]


def test_a_wait_that_brings_no_key_is_a_failure_and_one_that_brings_no_answer_is_503() -> None:
    side = Side()
    made, verdict = side.asked(bearer(token(OTHER)))
    answers: list[Any] = []
    assert verdict is WAIT
    side.gate.start(made, answers.append)
    side.learn(KEY)
    assert told(answers[0])[2].endswith('"the key that has signed it is not known"')
    side.now += 61.0
    made, verdict = side.asked(bearer(token(OTHER)))
    assert verdict is WAIT
    side.gate.start(made, answers.append)
    side.keys.failed("timeout", "no answer", 30.0)
    assert told(answers[1])[:2] == (503, "auth_unavailable")
    assert answers[1].retry_after == 30
    assert side.gate.counts["unavailable"] == 1
    # The fetch may have ended between the two calls.
    side.now += 61.0
    made, verdict = side.asked(bearer(token(OTHER)))
    side.learn(OTHER)
    side.gate.start(made, answers.append)
    assert answers[2] is PASS


async def test_an_explanation_names_the_issuers_and_whether_their_keys_are_there() -> None:
    nobody = Question("192.0.2.1", exempt=False, method="GET", now=0.0)
    there = await Side(BOTH).gate.explain(nobody)
    assert there["figures"]["login: keys"] == 1
    missing = await Side(keys=False).gate.explain(nobody)
    assert missing["figures"]["login: keys"] == 0
    assert "login has no keys now: its tokens get 503" in missing["detail"]
    assert Side(issuers=("login",)).gate.describe() == {"methods": "jwt", "issuers": "login"}

"""Issuers in the file: what they become, and what `gateway check` says about each mistake."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from gateway.config import ConfigError, load, read
from gateway.config.model import GatewayConfig
from gateway.config.reading.yaml_tree import parse
from gateway.config.sections.issuers.model import IssuerConfig
from tests.support.certificates import make_certificate
from tests.support.issuer import SigningKey, jwks

ROOT = Path(__file__).resolve().parents[2]
ROUTE = "routes:\n  - {name: r, prefix: /r, upstream: default, authentication: jwt}\n"
GOOD = "{issuer: https://login, audience: a, algorithms: RS256, jwks_url: https://login/jwks}"
URL = {"UPSTREAM_URL": "http://u"}

Load = Callable[..., GatewayConfig]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)
    Path("jwks.json").write_text(json.dumps(jwks(SigningKey("k1"))))
    Path("weak.json").write_text(json.dumps(jwks(SigningKey("weak", bits=1024))))
    Path("mixed.json").write_text(json.dumps(jwks(SigningKey("k1"), SigningKey("e1", "ES256"))))
    Path("secret").write_text("x" * 40 + "\n")
    Path("short").write_text("x" * 31)
    Path("pem").write_bytes(SigningKey("k1").pem)
    make_certificate(tmp_path / "ca")

    def of(text: str, **environ: str) -> GatewayConfig:
        Path("gateway.yaml").write_text(text, encoding="utf-8")
        return load({"GATEWAY_CONFIG": "gateway.yaml", **URL, **environ}, None)

    return of


def issuer(**changed: str | None) -> str:
    given = {
        "issuer": "https://login",
        "audience": "a",
        "algorithms": "RS256",
        "jwks_url": "https://login/jwks",
    } | changed
    lines = "".join(f"    {key}: {value}\n" for key, value in given.items() if value is not None)
    return f"issuers:\n  login:\n{lines}{ROUTE}"


def test_everything_about_an_issuer(loaded: Load) -> None:
    config = loaded(
        issuer(
            audience="[a, b]",
            algorithms="[RS256, ES256]",
            refresh="5m",
            typ="at+jwt",
            skew="30",
            max_token_bytes="4KiB",
            claims="{consumer: azp, tenant: /org/id, scopes: scp}",
            fields="{X-Mail: email, Remote-User: sub}",
            ca_file="ca/cert.pem",
        ).replace("authentication: jwt", "authentication: [api_key, jwt], issuers: [login], forward_token: false")
    )
    assert config.identity.issuers["login"] == IssuerConfig(
        "login",
        "https://login",
        ("a", "b"),
        ("RS256", "ES256"),
        jwks_url="https://login/jwks",
        ca_file="ca/cert.pem",
        refresh=300.0,
        typ="at+jwt",
        skew=30.0,
        max_token_bytes=4096,
        consumer="azp",
        consumer_prefix="login:",
        tenant_claim="/org/id",
        scopes="scp",
        fields=(("X-Mail", "email"), ("Remote-User", "sub")),
    )
    route = config.routes[0]
    assert (route.authentication, route.issuers, route.forward_token) == (("api_key", "jwt"), ("login",), False)


def test_tokens_without_an_audience_count_where_somebody_says_so(loaded: Load) -> None:
    text = issuer(
        audience="none", required_claims="{client_id: [a, b], token_use: access, /email/verified: true, n: 5}"
    )
    found = loaded(text).identity.issuers["login"]
    assert found.audience == ()
    assert dict(found.required_claims) == {
        "client_id": {"a", "b"},
        "token_use": {"access"},
        "/email/verified": {"true"},
        "n": {"5"},
    }
    # It is the name of an audience in a list.
    assert loaded(issuer(audience="[none]")).identity.issuers["login"].audience == ("none",)


@pytest.mark.parametrize("prefix", ['""', "x/"])
def test_the_prefix_may_be_another_or_none(prefix: str, loaded: Load) -> None:
    config = loaded(issuer(consumer_prefix=prefix))
    assert config.identity.issuers["login"].consumer_prefix == prefix.strip('"')


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/j", "http://[::1]:1/j", "http://localhost/j", "https://other.example/j?a=b"]
)
def test_keys_over_http_from_this_machine_and_over_https_from_anywhere(url: str, loaded: Load) -> None:
    assert loaded(issuer(jwks_url=f'"{url}"')).identity.issuers["login"].jwks_url == url


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (issuer(algorithms="none"), 'algorithms[0]: "none"; allowed: a list of RS256'),
        (issuer(algorithms="[RS256, None]"), "algorithms[1]: "),
        (issuer(algorithms="[]"), "algorithms: a list; allowed: a list of RS256"),
        (issuer(algorithms="rs256"), 'algorithms[0]: "rs256"; allowed: a list of RS256'),
        (issuer(algorithms="HS256"), 'algorithms: "HS256"; allowed: only with secret_file'),
        (issuer(algorithms="[RS256, HS256]"), 'algorithms: "HS256"; allowed: only with secret_file'),
        (
            issuer(jwks_url=None, secret_file="secret"),
            'algorithms: "RS256"; allowed: HS256, HS384, HS512: a secret makes nothing else',
        ),
        (
            issuer(jwks_url=None, secret_file="short", algorithms="HS256"),
            'secret_file: "short"; allowed: a file that can be used: the secret has 31 bytes, and HS256 needs 32',
        ),
        (issuer(jwks_url=None, secret_file="secret", algorithms="[HS256, HS512]"), "HS512 needs 64"),
        (issuer(jwks_url=None, secret_file="pem", algorithms="HS256"), "it is a PEM, DER or SSH key and no secret"),
        (
            issuer(jwks_url=None, secret_file="a-secret-in-place-of-a-path", algorithms="HS256"),
            "secret_file: ***; allowed: the path of a readable file",
        ),
        (issuer(jwks_url=None), "issuers.login: missing; allowed: exactly one of jwks_url, jwks_file and secret_file"),
        (issuer(jwks_file="jwks.json"), 'jwks_file: "jwks.json"; allowed: exactly one of jwks_url'),
        (issuer(jwks_url=None, jwks_file="gone.json"), 'jwks_file: "gone.json"; allowed: the path of a readable file'),
        (issuer(jwks_url=None, jwks_file="secret"), "allowed: a file that can be used: it is no JWK set"),
        (issuer(jwks_url=None, jwks_file="weak.json"), "its modulus has 1024 bits"),
        (issuer(jwks_url=None, jwks_file="jwks.json", algorithms="ES256"), "it is for none of the issuer's algorithms"),
        (issuer(jwks_url="http://login.example/jwks"), "allowed: https://…: whoever is between"),
        (issuer(jwks_url="http://127.0.0.1.example/jwks"), "allowed: https://…: whoever is between"),
        (issuer(jwks_url="ftp://login/jwks"), "jwks_url: "),
        (issuer(jwks_url="https://u:p@login/jwks"), "jwks_url: "),
        (issuer(jwks_url=None, jwks_file="jwks.json", ca_file="x"), 'ca_file: "x"; allowed: only with jwks_url'),
        (issuer(jwks_url="http://127.0.0.1/jwks", ca_file="x"), 'ca_file: "x"; allowed: only with https://'),
        (issuer(ca_file="gone.pem"), 'ca_file: "gone.pem"; allowed: the path of a readable file of CA certificates'),
        (issuer(ca_file="jwks.json"), 'ca_file: "jwks.json"; allowed: the path of a readable file of CA certificates'),
        (issuer(audience="[]"), "audience: a list; allowed: a list of at least one audience"),
        (issuer(audience=None), "audience: missing"),
        (issuer(audience=""), "audience: null; allowed: a list of at least one audience"),
        (issuer(required_claims="{use: []}"), "required_claims: a mapping; allowed: claims, each with the value"),
        (issuer(required_claims="[use]"), "required_claims: a list; allowed: claims, each with the value"),
        (issuer(required_claims="{use: {a: b}}"), "required_claims.use: a mapping; allowed: claims, each with the"),
        (issuer(issuer=None), "issuer: missing"),
        (issuer(issuer='"a b"'), "1 to 512 visible ASCII characters"),
        (issuer(skew="301"), "a number from 0 to 300"),
        (issuer(max_token_bytes="1"), "an integer from 256 to 65536"),
        (issuer(typ='""'), "a type such as at+jwt"),
        (issuer(tenant="acme", claims="{tenant: org}"), 'tenant: "acme"; allowed: either tenant or claims.tenant'),
        (issuer(tenant='"a b"'), "issuers.login.tenant"),
        (issuer(claims="{user: sub}"), "issuers.login.claims.user: unknown name"),
        (issuer(fields="{Authorization: sub}"), "names that begin with X- or Remote-"),
        (issuer(fields="{X-Forwarded-For: sub}"), "names that begin with X- or Remote-"),
        (issuer(fields="{X-Tenant: sub}"), "names that begin with X- or Remote-"),
        (issuer(fields='{"X-A: b": sub}'), "names that begin with X- or Remote-"),
        (issuer(fields="{X-A: a, x-a: b}"), "each field once"),
        (issuer(fields="{X-API-Key: sub}"), "another field than the one of API keys"),
        (issuer(consumer_prefix='"a b"'), "issuers.login.consumer_prefix"),
        (f"issuers: {{one: {GOOD}, two: {GOOD}}}\n{ROUTE}", "an issuer of its own; one has the same"),
        (f"issuers: {{'a b': {GOOD}}}\n{ROUTE}", "issuers.a b"),
        (ROUTE, 'routes[0].authentication: "jwt"; allowed: jwt only with issuers'),
        (issuer().replace("jwt}", "jwt, issuers: [logon]}"), 'issuers: "logon"; allowed: login; did you mean login?'),
        (issuer().replace("jwt}", "api_key, issuers: [login]}"), "routes[0].issuers: a list; allowed: only with"),
        (issuer().replace("jwt}", "api_key, forward_token: false}"), "routes[0].forward_token: false; allowed: only"),
    ],
)
def test_each_mistake_has_its_line(text: str, problem: str, loaded: Load) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(text)
    lines = str(error.value).splitlines()
    assert len(lines) == 1, lines
    assert problem in lines[0]
    assert "a-secret" not in lines[0]


def test_keys_over_http_where_somebody_says_so(loaded: Load) -> None:
    assert loaded(issuer(jwks_url="http://login.example/jwks", allow_http="true"))


def test_the_environment_may_say_jwt_only_where_there_are_issuers(loaded: Load) -> None:
    with pytest.raises(ConfigError, match="jwt only with issuers"):
        load({**URL, "AUTHENTICATION": "jwt"}, None)
    config = loaded(f"issuers: {{login: {GOOD}}}\n", AUTHENTICATION="jwt")
    assert config.routes[0].authentication == ("jwt",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (issuer().replace("authentication: jwt", "rate_limit: none"), "no route has authentication"),
        (issuer().replace("authentication: jwt", "authentication: api_key"), "no route has authentication: jwt"),
        (
            issuer(jwks_url=None, jwks_file="mixed.json"),
            "jwks_file: keys[1]: it is for none of the issuer's algorithms; it is not used",
        ),
        (
            issuer(audience="none"),
            "issuers.login.audience: none without required_claims: whatever the issuer has signed",
        ),
    ],
)
def test_what_is_probably_not_meant_is_noticed(text: str, said: str, loaded: Load) -> None:
    loaded(text)
    notices = [str(each) for each in read({"GATEWAY_CONFIG": "gateway.yaml", **URL}, None).notices]
    assert any(said in each for each in notices), notices


def test_the_schema_for_editors_takes_what_the_gateway_takes(loaded: Load) -> None:
    schema = json.loads((ROOT / "gateway.schema.json").read_text(encoding="utf-8"))
    for text in (
        issuer(claims="{tenant: org}", fields="{X-Mail: email}"),
        issuer(audience="[a, b]", algorithms="[RS256]", refresh="5m", typ="null"),
        issuer(audience="none", required_claims="{client_id: [a, b], token_use: access, email_verified: true}"),
        f"issuers: {{login: {GOOD}}}\n{ROUTE}",
    ):
        loaded(text)
        jsonschema.validate(parse(text, "gateway.yaml").root, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"issuers": {"login": {"issuer": "a", "algorithms": "none", "audience": "a"}}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"issuers": {"login": {"issuer": "a", "algorithms": "RS256", "audience": []}}}, schema)

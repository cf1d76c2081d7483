"""Consumers, tenants, tiers and the routes that ask for them, in the file and in the environment."""

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema
import pytest

from gateway.config import ConfigError, load, read
from gateway.config.model import GatewayConfig
from gateway.config.reading.yaml_tree import parse
from gateway.config.sections.identity.model import AllowConfig, KeyConfig, TierConfig
from gateway.config.sections.identity.settings import TAKEN
from gateway.wire.message import fields

ROOT = Path(__file__).resolve().parents[2]
SHA = "ab" * 32
KEY = f"{{id: abcdefgh, sha256: {SHA}}}"
ROUTE = "routes:\n  - {{name: r, prefix: /r, upstream: default, {}}}\n"
URL = {"UPSTREAM_URL": "http://u"}

Load = Callable[..., GatewayConfig]


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    monkeypatch.chdir(tmp_path)

    def of(text: str, **environ: str) -> GatewayConfig:
        Path("gateway.yaml").write_text(text, encoding="utf-8")
        return load({"GATEWAY_CONFIG": "gateway.yaml", **URL, **environ}, None)

    return of


def test_everything_about_callers(loaded: Load) -> None:
    config = loaded(
        "tiers: {gold: {rate_limit: big, concurrency: 2, quota_per_day: 3}, default: {}}\n"
        "rate_limits: {big: {capacity: 9}}\n"
        "tenants: {acme: {tier: gold}, plain: }\n"
        "consumers:\n  web:\n    tenant: acme\n    scopes: [a, b]\n    rate_limit: big\n"
        f'    keys: [{{id: abcdefgh, sha256: {SHA}, not_after: "2027-01-31T00:00:00Z"}}]\n'
        + ROUTE.format("authentication: api_key, allow: {tenants: [acme], scopes: [a]}"),
        API_KEY_HEADER="X-Key",
        API_KEY_QUERY="key",
    )
    identity = config.identity
    web = identity.consumers["web"]
    assert (web.tenant, web.scopes, web.rate_limit) == ("acme", frozenset("ab"), "big")
    assert web.keys == (KeyConfig("abcdefgh", SHA, 1_801_353_600.0),)
    assert identity.tier_of("acme") == TierConfig("gold", "big", 2, 3)
    assert identity.tier_of("plain") is None
    assert identity.tier_of("anybody") == TierConfig("default")
    assert (identity.api_key_header, identity.api_key_query) == ("X-Key", "key")
    route = config.routes[0]
    assert route.authentication == ("api_key",)
    assert route.allow == AllowConfig(frozenset({"acme"}), frozenset(), frozenset({"a"}))


@pytest.mark.parametrize(
    ("written", "environ", "methods"),
    [
        ("authentication: api_key", {}, ("api_key",)),
        ("authentication: [api_key]", {}, ("api_key",)),
        ("rate_limit: none", {"AUTHENTICATION": "api_key"}, ("api_key",)),
        ("authentication: none", {"AUTHENTICATION": "api_key"}, ()),
        ("authentication: []", {"AUTHENTICATION": "api_key"}, ()),
        ("rate_limit: none", {"AUTHENTICATION": "none"}, ()),
        ("rate_limit: none", {}, ()),
    ],
)
def test_a_route_that_does_not_say_asks_as_the_environment_says(
    written: str, environ: dict[str, str], methods: tuple[str, ...], loaded: Load
) -> None:
    config = loaded(ROUTE.format(written), **environ)
    assert config.routes[0].authentication == methods
    assert config.routes[1].authentication == (("api_key",) if environ.get("AUTHENTICATION") == "api_key" else ())


def test_without_rate_limits_nobody_has_one(loaded: Load) -> None:
    text = "tiers: {t: {rate_limit: default}}\nconsumers: {c: {rate_limit: default}}\n" + ROUTE.format(
        "authentication: api_key"
    )
    identity = loaded(text, RATE_LIMIT_ENABLED="false").identity
    assert (identity.tiers["t"].rate_limit, identity.consumers["c"].rate_limit) == (None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tiers: {t: {rate_limit: x}}", 'tiers.t.rate_limit: "x"; allowed: default'),
        ("tiers: {t: {concurrency: 0}}", "tiers.t.concurrency: 0; allowed: an integer from 1 to 1000000"),
        ("tiers: {t: {weight: 2}}", "tiers.t.weight: unknown name; allowed: rate_limit, concurrency"),
        ("tiers: {t: {priority: urgent}}", 'tiers.t.priority: "urgent"; allowed: critical or high or normal'),
        ("tenants: {a: {tier: x}}", 'tenants.a.tier: "x"; allowed: no names yet'),
        ("tenants: {a: {tier: gald}}\ntiers: {gold: {}}", "did you mean gold?"),
        ("tenants: {'a b': {}}", 'tenants.a b: "a b"; allowed: up to 64 letters'),
        ("consumers: {c: {tenant: x}}\ntenants: {acme: {}}", 'consumers.c.tenant: "x"; allowed: acme'),
        ("consumers: {c: {rate_limit: x}}", 'consumers.c.rate_limit: "x"; allowed: default'),
        ("consumers: {c: {scopes: ['a b']}}", 'consumers.c.scopes[0]: "a b"; allowed: 1 to 64 characters of a scope'),
        (
            f"consumers: {{c: {{keys: [{{id: abc, sha256: {SHA}}}]}}}}",
            'keys[0].id: "abc"; allowed: 8 to 32 lower-case letters',
        ),
        ("consumers: {c: {keys: [{id: abcdefgh, sha256: x}]}}", 'keys[0].sha256: "x"; allowed: the SHA-256 of a key'),
        # The key itself in place of its hash: it must not get into a log.
        (
            f"consumers: {{c: {{keys: [{{id: abcdefgh, sha256: gw_abcdefgh_{'A' * 43}}}]}}}}",
            'keys[0].sha256: "gw_abcdefgh_***"; allowed: the SHA-256 of a key',
        ),
        (
            f"consumers: {{c: {{keys: [{{id: abcdefgh, sha256: {SHA}, not_after: '2027-01-31'}}]}}}}",
            'keys[0].not_after: "2027-01-31"; allowed: an instant with its offset',
        ),
        (
            f"consumers: {{c: {{keys: [{KEY}, {KEY}, {KEY}]}}}}",
            "consumers.c.keys: a list; allowed: a list of at most two keys",
        ),
        (
            f"consumers: {{a: {{keys: [{KEY}]}}, b: {{keys: [{KEY}]}}}}",
            'consumers.b.keys[0].id: "abcdefgh"; allowed: an id of its own; consumers.a.keys[0] has the same',
        ),
        (
            ROUTE.format("authentication: password"),
            'routes[0].authentication[0]: "password"; allowed: api_key, jwt, or none',
        ),
        (
            ROUTE.format("authentication: api_key, allow: {tenants: []}"),
            "routes[0].allow.tenants: a list; allowed: a list of at least one; left out, any will do",
        ),
        (ROUTE.format("authentication: [api_key, none]"), 'routes[0].authentication[1]: "none"; allowed: api_key'),
        (ROUTE.format("allow: {tenants: [a]}"), "routes[0].allow: a mapping; allowed: only with authentication"),
    ],
)
def test_one_problem(text: str, said: str, loaded: Load) -> None:
    with pytest.raises(ConfigError) as error:
        loaded(text + "\n")
    assert len(error.value.problems) == 1
    assert said in str(error.value)


@pytest.mark.parametrize("name", ["Host", "cookie", "X-Tenant", "X-Forwarded-For", "X-Forwarded-Key"])
def test_a_field_with_another_meaning_is_no_field_for_keys(name: str, loaded: Load) -> None:
    """The gateway takes such a field away, so that no key would come; or upstreams need it, and would not get it."""
    with pytest.raises(ConfigError, match=f'API_KEY_HEADER: "{name}"; allowed: the name of a field that requests use'):
        loaded("", API_KEY_HEADER=name)


def test_every_field_that_has_a_meaning_for_the_gateway_is_no_field_for_keys() -> None:
    # Those that only proxies send are too many to list, and nobody would take one of them.
    assert {name.decode() for name in fields._REQUEST} - {name.decode() for name in fields._PROVENANCE} <= TAKEN


def test_a_tenant_of_a_consumer_need_not_be_named_where_there_is_a_default_tier(loaded: Load) -> None:
    text = "tiers: {default: {}}\nconsumers: {c: {tenant: anybody}}\n" + ROUTE.format("authentication: api_key")
    assert loaded(text).identity.consumers["c"].tenant == "anybody"


@pytest.mark.parametrize(
    ("text", "environ", "said"),
    [
        ("consumers: {c: {}}", {}, "no route has authentication"),
        (ROUTE.format("authentication: api_key"), {}, "every API key is refused"),
        (ROUTE.format("authentication: api_key"), {"REDIS_URL": "redis://r"}, None),
        (ROUTE.format("authentication: api_key"), {"REDIS_URL": "redis://r", "API_KEY_QUERY": "k"}, "keep URLs"),
    ],
)
def test_what_is_for_nobody_is_noticed(
    text: str, environ: dict[str, str], said: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gateway.yaml").write_text(text + "\n", encoding="utf-8")
    notices = [str(each) for each in read({"GATEWAY_CONFIG": "gateway.yaml", **URL, **environ}, None).notices]
    assert (said in notices[0] if said else notices == []) is True


def test_the_example_is_valid_for_the_gateway_and_for_its_schema() -> None:
    text = (ROOT / "examples/tenants.yaml").read_text(encoding="utf-8")
    schema = json.loads((ROOT / "gateway.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(parse(text, "tenants.yaml").root)
    loaded = read({"GATEWAY_CONFIG": str(ROOT / "examples/tenants.yaml")}, None)
    assert loaded.notices == ()
    assert loaded.config.identity.consumers.keys() == {"acme-web", "acme-batch"}

"""Which Redis the variables mean, what contradicts what, and that no secret gets out."""

import pytest

from gateway.config import ConfigError, load, read
from gateway.config.report.plain import as_json
from gateway.config.report.text import as_text, summary
from gateway.config.sections.redis.model import RedisConfig


def redis(**environ: str) -> RedisConfig | None:
    return load(environ, None).redis


def problems(**environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(environ, None)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", RedisConfig("single", (("h", 6379),))),
        ("redis://h:1/3", RedisConfig("single", (("h", 1),), db=3)),
        ("redis://:p%40ss@h/", RedisConfig("single", (("h", 6379),), password="p@ss")),
        ("rediss://u:p@[::1]:2", RedisConfig("single", (("::1", 2),), username="u", password="p", tls=True)),
    ],
)
def test_urls(url: str, expected: RedisConfig) -> None:
    assert redis(REDIS_URL=url) == expected


@pytest.mark.parametrize(
    "url",
    ["h:6379", "http://h", "redis://", "redis://h/x", "redis://h?db=1", "redis://h#", "unix:///s", "redis://:a#b@h"],
)
def test_urls_that_are_refused(url: str) -> None:
    assert [line.split(":")[0] for line in problems(REDIS_URL=url)] == ["environment REDIS_URL"]


def test_parts() -> None:
    environ = {"REDIS_HOST": "h", "REDIS_PORT": "1", "REDIS_DB": "2", "REDIS_USERNAME": "u", "REDIS_PASSWORD": "p"}
    environ |= {"REDIS_TLS": "true", "REDIS_TLS_VERIFY": "false", "REDIS_TIMEOUT": "0.1", "REDIS_KEY_PREFIX": "x"}
    assert load(environ, None).redis == RedisConfig(
        *("single", (("h", 1),), 2, "u", "p"), tls=True, tls_verify=False, timeout=0.1, key_prefix="x"
    )


def test_sentinels_and_cluster() -> None:
    assert redis(REDIS_SENTINELS="a,[::1]:2", REDIS_SENTINEL_MASTER="m", REDIS_SENTINEL_PASSWORD="p") == RedisConfig(
        "sentinel", (("a", 26379), ("::1", 2)), master_name="m", sentinel_password="p"
    )
    assert redis(REDIS_CLUSTER_NODES="a, b:2") == RedisConfig("cluster", (("a", 6379), ("b", 2)))


def test_a_part_may_complete_the_url_but_not_contradict_it() -> None:
    completed = redis(REDIS_URL="redis://h:1", REDIS_HOST="h", REDIS_PORT="1", REDIS_PASSWORD="p", REDIS_DB="4")
    assert completed == RedisConfig("single", (("h", 1),), db=4, password="p")
    assert problems(REDIS_URL="redis://:secret1@h/1", REDIS_DB="2", REDIS_PASSWORD="secret2") == [
        'environment REDIS_DB: "2"; allowed: not other than what REDIS_URL says, which is 1',
        "environment REDIS_PASSWORD: ***; allowed: not other than what REDIS_URL says, which is ***",
    ]
    assert len(problems(REDIS_URL="redis://h", REDIS_TLS="true")) == 1


@pytest.mark.parametrize(
    ("environ", "variable"),
    [
        ({"REDIS_PASSWORD": "p"}, "REDIS_PASSWORD"),
        ({"REDIS_PORT": "1"}, "REDIS_PORT"),
        ({"REDIS_URL": "redis://h", "REDIS_HOST": "i"}, "REDIS_HOST"),
        ({"REDIS_HOST": "h", "REDIS_CLUSTER_NODES": "c"}, "REDIS_CLUSTER_NODES"),
        ({"REDIS_HOST": "h", "REDIS_SENTINEL_MASTER": "m"}, "REDIS_SENTINEL_MASTER"),
        ({"REDIS_HOST": "h", "REDIS_USERNAME": "u"}, "REDIS_USERNAME"),
        ({"REDIS_HOST": "h", "REDIS_TLS_CA_FILE": "/etc/hostname"}, "REDIS_TLS_CA_FILE"),
        ({"REDIS_SENTINELS": "s"}, "REDIS_SENTINELS"),
        ({"REDIS_SENTINELS": "s", "REDIS_SENTINEL_MASTER": "m", "REDIS_PORT": "1"}, "REDIS_PORT"),
        ({"REDIS_CLUSTER_NODES": "c", "REDIS_DB": "1"}, "REDIS_DB"),
        ({"REDIS_HOST": "h", "REDIS_KEY_PREFIX": "{a}"}, "REDIS_KEY_PREFIX"),
        ({"REDIS_CLUSTER_NODES": "c:0"}, "REDIS_CLUSTER_NODES"),
    ],
)
def test_what_nothing_would_read_or_is_incomplete(environ: dict[str, str], variable: str) -> None:
    assert {line.split(":")[0] for line in problems(**environ)} == {f"environment {variable}"}


@pytest.mark.parametrize(
    "environ",
    [
        {"REDIS_URL": "redis://user:hunter2@h:x"},
        {"REDIS_URL": "redis://:hun@ter2@h?x"},
        {"REDIS_URL": "redis://h?password=hunter2"},
        {"REDIS_URL": "user:hunter2@h"},
        {"REDIS_URL": "redis://u:hunter2@h", "REDIS_PASSWORD": "ahunter2"},
        {"REDIS_PASSWORD": "hunter2"},
        {"REDIS_SENTINEL_PASSWORD": "hunter2", "REDIS_HOST": "h"},
        {"REDIS_PASSWROD": "hunter2"},
        {"REDIS_CLUSTER_NODES": "u:hunter2@h:1"},
        {"UPSTREAM_URL": "http://user:hunter2@h"},
        {"UPSTREAM_URL": "http://h/?key=hunter2"},
    ],
)
def test_problems_show_no_secret(environ: dict[str, str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(environ, None)
    everything = f"{caught.value} {caught.value!r} {caught.value.__cause__!r} {caught.value.__context__!r}"
    assert "ter2" not in everything


def test_reports_show_no_secret() -> None:
    environ = {"REDIS_SENTINELS": "s", "REDIS_SENTINEL_MASTER": "m", "REDIS_PASSWORD": "hunter2"}
    loaded = read(environ | {"REDIS_SENTINEL_PASSWORD": "hunter2"}, None)
    config = loaded.config
    assert config.redis is not None
    assert config.redis.password == config.redis.sentinel_password == "hunter2"
    shown = f"{config!r} {as_text(loaded, {}, 2)} {as_json(loaded, {}, 2)} {summary(config)}"
    assert "hunter2" not in shown
    assert '"password": "***"' in shown

"""Amounts with units, ranges of statuses: what is understood, and what is said of the rest."""

from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from gateway.config.model import GatewayConfig
from gateway.config.sections.upstreams.model import UpstreamConfig
from gateway.syntax.units import duration, number, size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("100ms", 0.1),
        ("5s", 5.0),
        ("1.5 s", 1.5),
        ("2m", 120.0),
        ("2min", 120.0),
        ("1h", 3600.0),
        ("1d", 86400.0),
        ("5", None),
        ("5 sec", None),
        ("s", None),
        ("1M", None),
        ("-5s", None),
        ("1m30s", None),
        ("٣s", None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1MB", 1_000_000),
        ("64KiB", 65_536),
        ("64kib", 65_536),
        ("1.5 MiB", 1_572_864),
        ("2GB", 2_000_000_000),
        ("10B", 10),
        ("1M", None),
        ("0.1B", None),
        ("64", None),
    ],
)
def test_sizes(text: str, number: int | None) -> None:
    assert size(text) == number


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        *(("5", 5.0), ("+5", 5.0), ("-0.5", -0.5), (".5", 0.5), ("5.", 5.0), ("1e3", 1000.0), ("05", 5.0)),
        *(("1_0", None), ("inf", None), ("nan", None), ("1e999", None), ("\u0665", None), (" 5", None), ("5 ", None)),
        *(("", None), ("5\n", None), ("0x10", None), ("1e+", None)),
    ],
)
def test_numbers(text: str, meant: float | None) -> None:
    assert number(text) == meant


@pytest.mark.parametrize(
    ("name", "value", "meant"),
    [
        ("PORT", "5_050", "5050"),
        ("MAX_BODY_BYTES", "1_000", "1000"),
        ("UPSTREAM_TIMEOUT", "1_0.5", "10.5"),
        ("RETRY_STATUSES", "502, 5_03", "503"),
        ("IDEMPOTENCY_DEFAULT_TTL_HOURS", "1_0", "10"),
        ("OTEL_TRACES_SAMPLER_ARG", "0.0_1", "0.01"),
    ],
)
def test_digits_with_separators_are_no_number(name: str, value: str, meant: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({name: value})
    assert str(caught.value).startswith(f'environment {name}: "{value}"; allowed: ')
    assert str(caught.value).endswith(f"; did you mean {meant}?")


@pytest.mark.parametrize("value", ["1_0", "\u0665", "inf"])
def test_a_time_that_is_a_number_only_to_python_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match="HEDGE_AFTER"):
        load({"HEDGE_AFTER": value})


def default(config: GatewayConfig) -> UpstreamConfig:
    return config.upstreams["default"]


def test_in_the_environment() -> None:
    config = load(
        {
            "UPSTREAM_TIMEOUT": "500ms",
            "UPSTREAM_TOTAL_TIMEOUT": "2m",
            "CIRCUIT_BREAKER_SLOW_CALL_THRESHOLD_SECONDS": "2s",
            "MAX_BODY_BYTES": "1MB",
            "RETRY_BUFFER_BYTES": "128KiB",
            "ALERT_RETENTION_HOURS": "90m",
            "RETRY_STATUSES": "500-502, 5xx, 429",
        },
        None,
    )
    upstream = default(config)
    assert (upstream.attempt_timeout, upstream.total_timeout, upstream.breaker.slow_call_threshold) == (0.5, 120.0, 2.0)
    assert (config.routes[0].max_body_bytes, config.retry_buffer_bytes) == (1_000_000, 131_072)
    assert config.errors.retention_hours == 1.5
    assert upstream.retry.statuses == {429, *range(500, 600)}


def test_in_the_file(tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(
        "upstreams:\n  a:\n    endpoints: ['h:1']\n    timeouts: {attempt: 500ms, total: 2}\n"
        "    retry: {statuses: [500-504, 429]}\n"
        "routes:\n  - {name: r, prefix: /r, upstream: a, max_body_bytes: 1MiB}\n"
    )
    config = load({"GATEWAY_CONFIG": str(file)}, None)
    assert (config.upstreams["a"].attempt_timeout, config.upstreams["a"].total_timeout) == (0.5, 2.0)
    assert config.upstreams["a"].retry.statuses == {429, *range(500, 505)}
    assert config.routes[0].max_body_bytes == 1_048_576


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("UPSTREAM_TIMEOUT", "5 sec", "a number from 0.001 to 3600, in seconds, such as 0.5, 500ms, 5s, 2m or 1h"),
        ("UPSTREAM_TIMEOUT", "2h", "a number from 0.001 to 3600, in seconds"),
        ("RETRY_BUFFER_BYTES", "1M", "an integer from 0 to 16777216, in bytes, such as 65536, 64KiB or 1MB"),
        ("RETRY_STATUSES", "500-602", "statuses from 400 to 599"),
        ("RETRY_STATUSES", "504-500", "statuses from 400 to 599"),
        ("RETRY_STATUSES", "2xx", "statuses from 400 to 599"),
    ],
)
def test_what_is_refused(name: str, value: str, allowed: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({name: value}, None)
    assert str(caught.value) == f'environment {name}: "{value}"; allowed: {allowed}'

"""Where traces go, and which: the names are those of OpenTelemetry."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from gateway.config import ConfigError, load
from gateway.config.model import GatewayConfig
from gateway.config.report.plain import flat
from gateway.config.sections.tracing.model import TracingConfig


def tracing(**variables: str) -> TracingConfig:
    config: GatewayConfig = load(variables, None)
    return config.tracing


def problems(**variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(variables, None)
    return str(caught.value)


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318"}, "http://c:4318/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/otlp/"}, "http://c:4318/otlp/v1/traces"),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://c/in?a=b"}, "https://c/in?a=b"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://d/x"},
            "http://d/x",
        ),
    ],
)
def test_where_spans_are_posted(variables: Mapping[str, str], url: str | None) -> None:
    assert tracing(**variables).url == url


@pytest.mark.parametrize(
    ("sampler", "ratio", "parent_based"),
    [
        ("parentbased_traceidratio", 0.25, True),
        ("traceidratio", 0.25, False),
        ("parentbased_always_on", 1.0, True),
        ("always_on", 1.0, False),
        ("parentbased_always_off", 0.0, True),
        ("always_off", 0.0, False),
    ],
)
def test_samplers(sampler: str, ratio: float, parent_based: bool) -> None:
    config = tracing(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG="0.25")
    assert (config.ratio, config.parent_based) == (ratio, parent_based)


def test_headers_and_attributes_are_pairs_with_percent_encoded_values() -> None:
    config = tracing(
        OTEL_EXPORTER_OTLP_HEADERS="Authorization=Bearer%20a%2Cb, x-other = c=d ,",
        OTEL_RESOURCE_ATTRIBUTES="team=pay%20ments",
    )
    assert config.export_headers == {"Authorization": "Bearer a,b", "x-other": "c=d"}
    assert config.resource == {"team": "pay ments"}


@pytest.mark.parametrize("pairs", ["secret", "=secret", "a b=secret", "a=secret%0d%0aX: 1", "ä=secret", "a=secret%ff"])
def test_what_is_no_pair_is_a_problem_and_is_not_shown(pairs: str) -> None:
    message = problems(OTEL_EXPORTER_OTLP_HEADERS=pairs)
    assert "OTEL_EXPORTER_OTLP_HEADERS" in message
    assert "secret" not in message
    assert "secret" not in repr(tracing(OTEL_EXPORTER_OTLP_HEADERS="a=secret"))


@pytest.mark.parametrize(
    "variables",
    [
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "c:4317"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:password@c"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c/?a=b"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
        {"OTEL_EXPORTER_OTLP_CERTIFICATE": "/nowhere"},
        {"OTEL_TRACES_SAMPLER": "jaeger_remote"},
        {"OTEL_BSP_MAX_QUEUE_SIZE": "100", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "200"},
    ],
)
def test_what_cannot_be_is_a_problem(variables: Mapping[str, str]) -> None:
    assert list(variables)[-1] in problems(**variables)


def test_the_old_name_of_the_ratio_is_answered_with_the_new_one(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TRACE_SAMPLE_RATIO=0.1\n")
    with pytest.raises(ConfigError, match="OTEL_TRACES_SAMPLER_ARG"):
        load({}, tmp_path / ".env")


def test_names_for_other_programs_of_the_host_are_left_alone() -> None:
    assert tracing(OTEL_EXPORTER_OTLP_METRICS_ENDPOINT="http://m", OTEL_LOGS_EXPORTER="otlp").url is None


def test_a_report_of_the_configuration_hides_the_key_of_the_collector() -> None:
    config = load({"OTEL_EXPORTER_OTLP_HEADERS": "a=secret", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, None)
    told = {path: hidden for path, _, hidden in flat(config) if path.startswith("tracing.")}
    assert told["tracing.export_headers.a"]
    assert told["tracing.url"]

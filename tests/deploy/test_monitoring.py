"""Prometheus, Alertmanager, Grafana: their files are valid and say nothing that a running gateway does not bear out."""

import http.client
import json
import re
import shutil
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import catalog
from tests.deploy.compose_rules import violations
from tests.deploy.promql import Catalog, Exposed, QueryProblem, labels
from tests.deploy.test_compose import compose_command, environment
from tests.deploy.tools import run, tool
from tests.support.certificates import make_certificate
from tests.support.gateway_process import GatewayProcess
from tests.support.processes import ROOT
from tests.support.redis_server import RedisServer
from tests.support.stub_process import StubProcess

MONITORING = ROOT / "monitoring"
COMPOSE = ROOT / "docker-compose.monitoring.yml"
RULE_FILES = sorted((MONITORING / "rules").glob("*.yml"))
RULE_TESTS = sorted((MONITORING / "rules/tests").glob("*.yml"))
DASHBOARDS = sorted((MONITORING / "grafana/dashboards").glob("*.json"))
# The names that runbooks and pagers know.
ALERTS = {
    "ServiceDown",
    "UpstreamHighErrorRate",
    "CircuitBreakerFrequentlyOpen",
    "HighRateLimitRejections",
    "RedisHighMemoryUsage",
    "HighResponseLatency",
    "HighErrorRate",
    "RetryAmplification",
    "LoadShedding",
    "BulkheadSaturated",
    "CertificateExpiresSoon",
    "CertificateReloadFailed",
    "WorkersMissing",
    "WorkersKeepDying",
    "ConfigReloadFailed",
    "UpstreamAddressesStale",
}


def document(path: Path) -> dict[str, Any]:
    parsed: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return parsed


# Recording rules come first: they stand in the file that is first where they are used by another.
RULES = [
    rule
    for path in sorted(RULE_FILES, key=lambda path: path.name != "recording.yml")
    for group in document(path)["groups"]
    for rule in group["rules"]
]
RECORDED = [(rule["record"], rule["expr"]) for rule in RULES if "record" in rule]
ALERTING = {rule["alert"]: rule for rule in RULES if "alert" in rule}


@dataclass(frozen=True)
class Query:
    """One query of a dashboard. `shown` are the labels that its legend names, `grafana` the dashboard's variables."""

    where: str
    expr: str
    shown: frozenset[str]
    grafana: frozenset[str]

    @property
    def promql(self) -> str:
        text = self.expr.replace("$__rate_interval", "5m").replace("$__range", "1h")
        used = set(re.findall(r"\$(\w+)", text))
        assert used <= self.grafana, f"{self.where}: {used - self.grafana} are no variables of the dashboard"
        return re.sub(r"\$\w+", ".*", text)


def queries() -> Iterator[Query]:
    for path in DASHBOARDS:
        board = json.loads(path.read_text(encoding="utf-8"))
        variables = frozenset(each["name"] for each in board["templating"]["list"])
        for panel in board["panels"]:
            for target in panel.get("targets", ()):
                shown = frozenset(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
                yield Query(f"{path.stem}: {panel['title']}", target["expr"], shown, variables)
        for each in board["annotations"]["list"]:
            shown = frozenset(re.findall(r"\{\{(\w+)\}\}", each["titleFormat"]))
            yield Query(f"{path.stem}: annotation {each['name']}", each["expr"], shown, variables)
        for each in board["templating"]["list"]:
            asked = re.fullmatch(r"label_values\((\w+), (\w+)\)", each["query"]["query"])
            assert asked, f"{path.stem}: {each['name']}"
            yield Query(f"{path.stem}: ${each['name']}", f"sum by ({asked[2]}) ({asked[1]})", frozenset(), variables)


QUERIES = list(queries())


@pytest.fixture(scope="module")
def live(redis_server: RedisServer, stub_process: StubProcess, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """What is exposed by a gateway that has Redis, an upstream, and some traffic behind it, by a second one that has a
    certificate and an upstream with a name, and by others."""
    redis_server.ensure_running()
    redis_server.flush()
    directory = tmp_path_factory.mktemp("gateway")
    delivering = "{name: hooks, prefix: /hooks, upstream: default, deliver: {enabled: true}}"
    falling_back = "{name: chat, prefix: /chat, upstream: default, fallback: {stale_if_error: 60}, hooks: [nods:Nods]}"
    to = "{to: [{upstream: default, weight: 1}]}"
    splitting = f"{{name: split, prefix: /split, split: {to}, mirror: {{upstream: shadow}}}}"
    (directory / "nods.py").write_text("class Nods:\n    def on_request(self, head): return None\n")
    starting = "{name: runs, prefix: /runs, workflow: w}"
    step = "{name: one, upstream: default, method: PUT, path: /ok, compensate: {method: DELETE, path: /ok}}"
    routes = f"[{delivering}, {falling_back}, {splitting}, {starting}]"
    upstreams = f"{{shadow: {{endpoints: ['127.0.0.1:{stub_process.port}']}}}}"
    text = f"upstreams: {upstreams}\nworkflows: {{w: {{steps: [{step}]}}}}\nroutes: {routes}\n"
    (directory / "gateway.yaml").write_text(text)
    variables = {**redis_server.variables, "UPSTREAM_URL": stub_process.url, "IDEMPOTENCY_MODE": "optional"}
    # Nobody listens there: what is lost is counted all the same.
    variables["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:1"
    variables |= {"FAULTS_ENABLED": "true", "ADMIN_TOKEN": "a-token-of-32-characters-for-tests"}
    variables |= {"ADAPTIVE_LIMIT_MODE": "observe", "ROUTE_PRIORITY": "normal", "HEDGE_AFTER": "5s"}
    with GatewayProcess({**variables, "GATEWAY_CONFIG": "gateway.yaml"}, directory) as gateway:
        for target in ("/proxy/ok", "/proxy/status/503", "/proxy/fail", "/nowhere"):
            for _ in range(3):
                gateway.get(target)
        exposition = gateway.get("/metrics").body.decode()
    redis_server.flush()
    exposition += with_certificate(stub_process, tmp_path_factory) + with_callers(stub_process, tmp_path_factory)
    exposition += with_validation(stub_process, tmp_path_factory.mktemp("gateway"))
    return catalog.with_rules(catalog.exposed(exposition), RECORDED)


def with_callers(stub_process: StubProcess, directories: pytest.TempPathFactory) -> str:
    variables = {
        "GATEWAY_CONFIG": str(ROOT / "examples/tenants.yaml"),
        "LOGIN_JWKS": str(ROOT / "examples/login-jwks.json"),
        "ORDERS": f"127.0.0.1:{stub_process.port}",
    }
    with GatewayProcess(variables, directories.mktemp("gateway")) as gateway:
        gateway.get("/orders/ok")
        return gateway.get("/metrics").body.decode()


def with_validation(stub_process: StubProcess, directory: Path) -> str:
    """A gateway with a route that validates, and one that only reports."""
    rules = {"schema": str(ROOT / "deploy/validation_rules.json")}
    common = {"upstream": "orders", "rate_limit": None}
    (directory / "gateway.yaml").write_text(
        yaml.safe_dump(
            {
                "upstreams": {"orders": {"endpoints": [stub_process.url]}},
                "routes": [
                    {"name": "orders", "prefix": "/orders", **common, "validate": rules},
                    {"name": "reported", "prefix": "/reported", **common, "validate": rules | {"mode": "report"}},
                ],
            }
        )
    )
    with GatewayProcess({"GATEWAY_CONFIG": "gateway.yaml"}, directory) as gateway:
        gateway.request("POST", "/orders/ok")
        return gateway.get("/metrics").body.decode()


def with_certificate(stub_process: StubProcess, directories: pytest.TempPathFactory) -> str:
    certificate = make_certificate(directories.mktemp("certificate"))
    context = ssl.create_default_context(cafile=str(certificate.cert))
    variables = {"UPSTREAM_URL": f"http://localhost:{stub_process.port}", **certificate.variables}
    with GatewayProcess(variables, directories.mktemp("gateway"), ready=False) as gateway:
        gateway.wait_for_line("listening on")
        for target in ("/proxy/ok", "/metrics"):
            connection = http.client.HTTPSConnection("localhost", gateway.port, timeout=30.0, context=context)
            connection.request("GET", target)
            body = connection.getresponse().read()
            connection.close()
    return body.decode()


def test_prometheus_accepts_its_files() -> None:
    answer = run([tool("promtool"), "check", "config", "prometheus.yml"], MONITORING)
    assert answer.returncode == 0, answer.stdout
    for path in RULE_FILES:
        assert f"rules/{path.name}" in answer.stdout


@pytest.mark.parametrize(
    ("file", "text", "instead"),
    [
        ("prometheus.yml", "dns_sd_configs:", "dns_configs:"),
        ("rules/alerts.yml", "sum by (job, reason)", "sum by (job, reason"),
        ("rules/recording.yml", "record: job:http_requests:rate5m", "record: job http"),
        ("rules/slo.yml", "for: 2m", "for: two minutes"),
    ],
)
def test_prometheus_refuses_them_when_broken(file: str, text: str, instead: str, tmp_path: Path) -> None:
    copy = broken_copy(tmp_path, file, text, instead)
    assert run([tool("promtool"), "check", "config", "prometheus.yml"], copy).returncode != 0


@pytest.mark.parametrize("path", RULE_TESTS, ids=lambda path: path.stem)
def test_rules(path: Path) -> None:
    answer = run([tool("promtool"), "test", "rules", path.name], path.parent)
    assert answer.returncode == 0, answer.stdout


@pytest.mark.parametrize(
    ("file", "text", "instead"),
    [
        ("rules/alerts.yml", "redis_memory_used:ratio > 0.8", "redis_memory_used:ratio > 0.9"),
        ("rules/alerts.yml", 'redis_up{job="proxy-service"}', "redis_up"),
        ("rules/recording.yml", "(redis_memory_max_bytes > 0)", "redis_memory_max_bytes"),
        ("rules/alerts.yml", "docs/operations.md#redis-memory", "docs/operations.md#redis"),
    ],
)
def test_rule_tests_notice_a_change(file: str, text: str, instead: str, tmp_path: Path) -> None:
    copy = broken_copy(tmp_path, file, text, instead)
    assert run([tool("promtool"), "test", "rules", "redis.yml"], copy / "rules/tests").returncode != 0


def test_each_alert_is_tested_to_fire_and_not_to() -> None:
    fires: set[str] = set()
    stays: set[str] = set()
    for path in RULE_TESTS:
        for each in document(path)["tests"]:
            for expected in each.get("alert_rule_test", ()):
                (fires if expected["exp_alerts"] else stays).add(expected["alertname"])
    assert set(ALERTING) == fires
    assert set(ALERTING) == stays


def test_the_alerts_that_runbooks_name_are_there() -> None:
    assert set(ALERTING) >= ALERTS


@pytest.mark.parametrize("name", ALERTING)
def test_alert_says_what_to_do(name: str) -> None:
    rule = ALERTING[name]
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert "for" in rule
    annotations = rule["annotations"]
    assert annotations["summary"]
    assert annotations["description"]
    path, _, anchor = annotations["runbook_url"].partition("#")
    assert anchor in anchors(ROOT / path), f"{path} has no heading for #{anchor}"


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", ALERTING)
def test_alert_uses_what_a_gateway_exposes(name: str, live: Catalog) -> None:
    rule = ALERTING[name]
    there = labels(rule["expr"], live)
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
    assert named <= there


@pytest.mark.parametrize("name", [name for name, _ in RECORDED])
def test_recording_rule_uses_what_a_gateway_exposes(name: str, live: Catalog) -> None:
    level, colon, _ = name.partition(":")
    # The names of a runbook have no level.
    assert live[name][0].labels >= {"job", *([level] if colon else [])}


def test_each_metric_is_in_the_documentation(live: Catalog) -> None:
    text = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    families = {
        re.sub(r"_(bucket|sum|count|created)$", "", name)
        for name, those in live.items()
        if any(each.job == catalog.GATEWAY for each in those) and not name.startswith("process_")
    }
    assert len(families) > 30
    assert [name for name in families if name not in text] == []


def test_nothing_is_recorded_twice() -> None:
    assert len({name for name, _ in RECORDED}) == len(RECORDED)


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.where)
def test_panel_uses_what_a_gateway_exposes(query: Query, live: Catalog) -> None:
    assert query.shown <= labels(query.promql, live)


@pytest.mark.parametrize(
    ("expr", "complaint"),
    [
        ("rate(http_request_total[5m])", "nobody exposes http_request_total"),
        ("http_requests_total{path='/ok'}", "has no label path"),
        ("circuit_breaker_transitions_total{to='opened'}", "has no to='opened'"),
        ("gateway_refusals_total{reason=~'circuit_closed|shed'}", "has no reason like"),
        ("sum by (client) (rate(http_requests_total[5m]))", "aggregated by a label"),
        ("rate(http_requests_5xx_total[5m]) / rate(http_requests_total[5m])", "none match"),
        ("histogram_quantile(0.9, sum by (route) (rate(http_request_duration_seconds_bucket[5m])))", "without le"),
        ("redis_up", "job must say which"),
        ("redis_up{job='gateway'}", "is not of the job"),
        ("label_replace(breaker_state, 'upstream', '$1', 'service', '(.*)')", "label_replace of a label"),
        ("breaker_state and on (upstream) circuit_breaker_state", "matches by a label"),
        ("sum by (job) (up", "unclosed"),
    ],
)
def test_a_query_that_cannot_work_is_found(expr: str, complaint: str, live: Catalog) -> None:
    with pytest.raises(QueryProblem, match=re.escape(complaint)):
        labels(expr, live)


@pytest.mark.parametrize(
    ("expr", "result"),
    [
        ("up", {"job", "instance"}),
        ("sum(up)", set()),
        ("sum by (job) (up) == 0 or absent(up{job='proxy-service'})", {"job"}),
        ("sum without (instance) (breaker_state)", {"job", "downstream"}),
        ("a / on (job) group_left (zone) b", {"job", "zone"}),
        ("a - ignoring (zone) b", {"job"}),
        ("max_over_time(up[1h:1m]) > 0 unless b", None),
        ("time() - a", {"job"}),
    ],
)
def test_labels_of_a_result(expr: str, result: set[str] | None) -> None:
    known = {
        "up": [Exposed(None, frozenset({"job", "instance"}))],
        "breaker_state": [Exposed("proxy-service", frozenset({"job", "instance", "downstream"}))],
        "a": [Exposed(None, frozenset({"job"}))],
        "b": [Exposed(None, frozenset({"job", "zone"}))],
    }
    if result is None:
        with pytest.raises(QueryProblem):
            labels(expr, known)
    else:
        assert labels(expr, known) == result


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_dashboard_is_complete(path: Path) -> None:
    board = json.loads(path.read_text(encoding="utf-8"))
    datasource = document(MONITORING / "grafana/provisioning/datasources/prometheus.yml")["datasources"][0]
    assert board["uid"] == path.stem
    assert board["title"]
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, f"{panel['title']} lies on another panel"
        assert place["x"] + place["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["targets"]
            assert panel["fieldConfig"]["defaults"]["unit"]
            for each in (panel, *panel["targets"]):
                assert each["datasource"]["uid"] == datasource["uid"]


def test_circuits_are_a_timeline_with_their_states() -> None:
    board = json.loads((MONITORING / "grafana/dashboards/gateway-resilience.json").read_text(encoding="utf-8"))
    timeline = next(panel for panel in board["panels"] if panel["title"] == "Circuits")
    assert timeline["type"] == "state-timeline"
    names = timeline["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert {number: each["text"] for number, each in names.items()} == {"1": "closed", "2": "open", "3": "half-open"}


def test_every_replica_is_scraped() -> None:
    jobs = {job["job_name"]: job for job in document(MONITORING / "prometheus.yml")["scrape_configs"]}
    (lookup,) = jobs[catalog.GATEWAY]["dns_sd_configs"]
    gateway = document(ROOT / "docker-compose.yml")["services"]["proxy-service"]
    assert lookup["names"] == ["proxy-service"]
    assert gateway["ports"][0].endswith(f":{lookup['port']}")
    assert set(jobs) == {catalog.GATEWAY, *catalog.OTHERS}
    services = document(COMPOSE)["services"]
    for job in set(jobs) - {catalog.GATEWAY}:
        for target in jobs[job]["static_configs"][0]["targets"]:
            assert target.partition(":")[0] in {*services, "localhost"}


def test_alertmanager_accepts_its_file(tmp_path: Path) -> None:
    answer = run([tool("amtool"), "check-config", "alertmanager.yml"], MONITORING)
    assert answer.returncode == 0, answer.stdout
    copy = broken_copy(tmp_path, "alertmanager.yml", "receiver: page", "receiver: pager")
    assert run([tool("amtool"), "check-config", "alertmanager.yml"], copy).returncode != 0


def test_alertmanager_knows_the_alerts_it_names() -> None:
    config = document(MONITORING / "alertmanager.yml")
    for rule in config["inhibit_rules"]:
        for matcher in (*rule["source_matchers"], *rule["target_matchers"]):
            assert matcher.rpartition('"')[0].rpartition('"')[2] in ALERTING


def test_compose_file_means_the_same_to_both_versions() -> None:
    text = COMPOSE.read_text(encoding="utf-8")
    assert violations(yaml.safe_load(text), text) == []


def test_compose_accepts_the_file(tmp_path: Path) -> None:
    copy = broken_copy(tmp_path, "prometheus.yml", "", "")
    shutil.copy2(COMPOSE, tmp_path)
    variables = environment(tmp_path, COMPOSE.name)
    command = [*compose_command(tmp_path), "config"]
    answer = run(command, copy.parent, {**variables, "COMPOSE_PROJECT_NAME": "shop"})
    assert answer.returncode == 0, answer.stdout
    assert yaml.safe_load(answer.stdout)["networks"]["gateway"]["name"] == "shop_default"
    broken = COMPOSE.read_text(encoding="utf-8").replace("ports:", "prots:", 1)
    (copy.parent / COMPOSE.name).write_text(broken, encoding="utf-8")
    assert run(command, copy.parent, variables).returncode != 0


@pytest.mark.parametrize(("name", "service"), document(COMPOSE)["services"].items())
def test_service_has_only_what_it_needs(name: str, service: dict[str, Any]) -> None:
    assert re.fullmatch(r"[\w/-]+:v?\d+\.\d+\.\d+", service["image"])
    assert re.match(r"[1-9]\d*:\d+", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "no-new-privileges:true" in service["security_opt"]
    assert service["restart"] == "unless-stopped"
    assert {"cpus", "memory"} <= set(service["deploy"]["resources"]["limits"])
    assert {"max-size", "max-file"} <= set(service["logging"]["options"])
    # Anybody who reaches them may read everything.
    for port in service.get("ports", ()):
        assert re.fullmatch(r"\$\{DOCKER_\w+:-127\.0\.0\.1:\d+\}:\d+", port)
    for volume in service.get("volumes", ()):
        if isinstance(volume, dict):
            assert volume["read_only"] is True
            assert (ROOT / volume["source"]).exists()


def test_grafana_finds_its_dashboards() -> None:
    provider = document(MONITORING / "grafana/provisioning/dashboards/gateway.yml")["providers"][0]
    grafana = document(COMPOSE)["services"]["grafana"]
    mounted = {volume["target"]: volume["source"] for volume in grafana["volumes"]}
    assert mounted[provider["options"]["path"]] == "./monitoring/grafana/dashboards"
    home = Path(grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
    assert home.name in {path.name for path in DASHBOARDS}


def test_grafana_leads_from_a_latency_to_its_trace() -> None:
    sources = document(MONITORING / "grafana/provisioning/datasources/prometheus.yml")["datasources"]
    by_uid = {each["uid"]: each for each in sources}
    (destination,) = by_uid["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    # The label of the exemplars that the gateway exposes.
    assert destination["name"] == "trace_id"
    assert by_uid[destination["datasourceUid"]]["type"] == "jaeger"
    services = document(COMPOSE)["services"]
    assert by_uid["jaeger"]["url"] == "http://jaeger:16686"
    assert any(port.endswith(":16686") for port in services["jaeger"]["ports"])
    assert "--enable-feature=exemplar-storage" in services["prometheus"]["command"]


def broken_copy(directory: Path, file: str, text: str, instead: str) -> Path:
    """The monitoring directory with one text in one of its files replaced."""
    copy = directory / "monitoring"
    shutil.copytree(MONITORING, copy)
    path = copy / file
    before = path.read_text(encoding="utf-8")
    assert text in before
    path.write_text(before.replace(text, instead), encoding="utf-8")
    return copy

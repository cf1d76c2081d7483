"""The files in k8s: valid for the API server, consistent among themselves, and with the gateway that they run."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from gateway import __version__
from gateway.config import load
from tests.deploy.kubernetes_rules import environment, problems
from tests.deploy.kustomize import Object, build, documents, files, pod
from tests.deploy.operator_schemas import SCHEMAS
from tests.deploy.tools import run
from tests.support.processes import ROOT

K8S = ROOT / "k8s"
KUSTOMIZATIONS = (".", "managed-redis", "stub", "monitoring")
# The oldest that still gets patches somewhere, and the newest that schemas are there for.
VERSIONS = ("1.30", kubernetes_validate.latest_version())
SECRETS = documents(K8S / "secret.example.yaml")


def everything() -> list[Object]:
    return [each for name in KUSTOMIZATIONS if name != "managed-redis" for each in build(K8S / name)]


def named(objects: list[Object], kind: str, name: str) -> Object:
    return next(each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name))


def invalid(objects: list[Object], version: str) -> Iterator[str]:
    for each in objects:
        name = f"{each['kind']} {each['metadata']['name']}"
        try:
            if each["kind"] in SCHEMAS:
                jsonschema.validate(each, SCHEMAS[each["kind"]])
            else:
                kubernetes_validate.validate(each, version, strict=True)
        except (jsonschema.ValidationError, kubernetes_validate.ValidationError) as error:
            yield f"{name}: {error.message}"
        except kubernetes_validate.SchemaNotFoundError:
            yield f"{name}: no such kind in {each['apiVersion']}"


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_kubernetes_accepts_it(name: str, version: str) -> None:
    assert list(invalid(build(K8S / name) + SECRETS, version)) == []


@pytest.mark.parametrize("name", [".", "managed-redis"])
def test_it_fits_together(name: str) -> None:
    assert problems(build(K8S / name), SECRETS) == []


def test_what_is_added_fits_too() -> None:
    assert problems(everything(), SECRETS) == []


def test_no_file_is_forgotten() -> None:
    used = {path for name in KUSTOMIZATIONS for path in files((K8S / name).resolve())}
    assert {path.resolve() for path in K8S.rglob("*.yaml")} - used == {K8S / "secret.example.yaml"}


def test_nothing_is_there_twice_and_all_is_in_one_namespace() -> None:
    objects = everything()
    keys = [(each["kind"], each["metadata"]["name"]) for each in objects]
    assert len(set(keys)) == len(keys)
    assert {each["metadata"].get("namespace", each["metadata"]["name"]) for each in objects} == {"api-gateway"}


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_kubectl_makes_the_same_of_it(name: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip(
            "kubectl is not installed (it is no package of Debian's): our own reading of kustomize stands alone"
        )
    answer = run([kubectl, "kustomize", str(K8S / name)], ROOT)
    assert answer.returncode == 0, answer.stdout
    # The hash in the generated name is what our own leaves out.
    objects = yaml.safe_load_all(re.sub(r"(name: gateway-config)-\w{10}$", r"\1", answer.stdout, flags=re.MULTILINE))

    def key(each: Object) -> tuple[str, str]:
        return each["kind"], each["metadata"]["name"]

    assert sorted(objects, key=key) == sorted(build(K8S / name), key=key)


@pytest.mark.parametrize(
    ("name", "redis"), [(".", ("redis", 6379, False)), ("managed-redis", ("redis.example.net", 6379, True))]
)
def test_the_gateway_takes_its_configuration(name: str, redis: tuple[str, int, bool]) -> None:
    objects = build(K8S / name)
    variables = environment(pod(named(objects, "Deployment", "proxy-service"))["containers"][0], objects + SECRETS)
    config = load(variables, None)
    assert config.environment == "production"
    assert config.admin.token == variables["ADMIN_TOKEN"]
    assert config.redis is not None
    host, port, tls = redis
    assert config.redis.addresses == ((host, port),)
    assert config.redis.tls is tls
    assert config.redis.password == variables["REDIS_PASSWORD"]


def test_clients_cannot_reach_the_control_plane() -> None:
    objects = everything()
    config = load(
        environment(pod(named(objects, "Deployment", "proxy-service"))["containers"][0], objects + SECRETS), None
    )
    service = named(objects, "Service", "proxy-service")
    assert [port["port"] for port in service["spec"]["ports"]] == [config.server.port]
    assert config.admin.port not in (None, config.server.port)
    rules = named(objects, "NetworkPolicy", "proxy-service")["spec"]["ingress"]
    for rule in rules:
        for port in rule["ports"]:
            assert ("from" in rule) == (port["port"] == "admin")


def test_runs_as_the_user_of_the_image() -> None:
    users = set(re.findall(r"^USER (\d+):", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE))
    for name in ("proxy-service", "upstream-service"):
        assert {str(pod(named(everything(), "Deployment", name))["securityContext"]["runAsUser"])} == users


def test_images_are_of_this_version() -> None:
    for name in ("proxy-service", "upstream-service"):
        assert pod(named(everything(), "Deployment", name))["containers"][0]["image"].endswith(f":{__version__}")


def test_redis_keeps_what_must_last() -> None:
    arguments = pod(named(everything(), "StatefulSet", "redis"))["containers"][0]["args"]
    options = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert options["--appendonly"] == "yes"
    assert options["--maxmemory-policy"] == "volatile-ttl"
    limit = pod(named(everything(), "StatefulSet", "redis"))["containers"][0]["resources"]["limits"]["memory"]
    assert int(limit.removesuffix("Mi")) >= 2 * int(options["--maxmemory"].removesuffix("mb"))


def test_the_operator_scrapes_under_the_names_that_the_rules_know() -> None:
    monitors = [each for each in build(K8S / "monitoring") if each["kind"] == "ServiceMonitor"]
    (gateway,) = next(each for each in monitors if each["metadata"]["name"] == "proxy-service")["spec"]["endpoints"]
    # `service` and `endpoint` are labels of ours, and the operator's for every target.
    assert gateway["honorLabels"] is True
    jobs = {
        rule["replacement"]
        for each in monitors
        for endpoint in each["spec"]["endpoints"]
        for rule in endpoint["relabelings"]
        if rule["targetLabel"] == "job"
    }
    scraped = yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"]
    assert jobs <= {job["job_name"] for job in scraped}
    assert jobs == {"proxy-service", "redis"}


def test_the_rules_are_those_of_prometheus() -> None:
    answer = run([sys.executable, "scripts/prometheusrule.py"], ROOT)
    assert answer.returncode == 0, answer.stdout
    path = K8S / "monitoring/prometheusrule.yaml"
    assert path.read_text(encoding="utf-8") == answer.stdout, "python scripts/prometheusrule.py >" + str(path)


Break = Callable[[list[Object]], Any]


def gateway(objects: list[Object]) -> Any:
    return named(objects, "Deployment", "proxy-service")["spec"]["template"]["spec"]


def config_map(objects: list[Object]) -> Any:
    return named(objects, "ConfigMap", "gateway-config")["data"]


@pytest.mark.parametrize(
    ("break_it", "complaint"),
    [
        (lambda all_: gateway(all_).update(terminationGracePeriodSeconds=30), "killed before it has drained"),
        (lambda all_: config_map(all_).update(DRAIN_TIMEOUT_SECONDS="60"), "killed before it has drained"),
        (lambda all_: config_map(all_).update(RATE_LIMIT_CAPACTY="5"), "the configuration is wrong"),
        (lambda all_: config_map(all_).update(ADMIN_PORT="5003"), "listens on other ports"),
        (lambda all_: gateway(all_)["securityContext"].pop("runAsUser"), "may run as root"),
        (lambda all_: gateway(all_)["securityContext"].pop("seccompProfile"), "no seccomp profile"),
        (lambda all_: gateway(all_).pop("automountServiceAccountToken"), "token for the API"),
        (lambda all_: gateway(all_)["containers"][0]["securityContext"].pop("capabilities"), "keeps capabilities"),
        (
            lambda all_: gateway(all_)["containers"][0]["securityContext"].pop("readOnlyRootFilesystem"),
            "may write everywhere",
        ),
        (lambda all_: gateway(all_)["containers"][0]["resources"].pop("limits"), "no requests or limits"),
        (lambda all_: gateway(all_)["containers"][0].update(image="resilient-api-gateway"), "no pinned image"),
        (
            lambda all_: gateway(all_)["containers"][0]["livenessProbe"]["httpGet"].update(path="/readyz"),
            "probed in the wrong places",
        ),
        (
            lambda all_: gateway(all_)["containers"][0]["readinessProbe"]["httpGet"].update(port="web"),
            "asks a port that it does not have",
        ),
        (lambda all_: gateway(all_)["containers"][0]["ports"][0].update(name="web"), "no container has the port http"),
        (
            lambda all_: gateway(all_)["containers"][0]["env"][0]["valueFrom"]["secretKeyRef"].update(key="PASSWORD"),
            "comes from what is not there",
        ),
        (
            lambda all_: named(all_, "Service", "redis")["spec"]["selector"].update({"app.kubernetes.io/name": "x"}),
            "selects no pod",
        ),
        (
            lambda all_: named(all_, "HorizontalPodAutoscaler", "proxy-service")["spec"]["scaleTargetRef"].update(
                name="proxy"
            ),
            "scales what is not there",
        ),
        (lambda all_: named(all_, "Deployment", "proxy-service")["spec"].update(replicas=3), "take back its number"),
        (
            lambda all_: named(all_, "ServiceMonitor", "proxy-service")["spec"]["endpoints"][0].update(port="http"),
            "no Service that it selects has the port http",
        ),
        (
            lambda all_: gateway(all_)["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"].update(x="y"),
            "selects other pods than its own",
        ),
    ],
)
def test_what_does_not_fit_is_found(break_it: Break, complaint: str) -> None:
    objects = everything()
    break_it(objects)
    found = problems(objects, SECRETS)
    assert any(complaint in each for each in found), found


@pytest.mark.parametrize(
    "break_it",
    [
        lambda all_: gateway(all_).update(terminationGracePeriod=50),
        lambda all_: gateway(all_)["containers"][0]["livenessProbe"].update(periodSeconds="10"),
        lambda all_: config_map(all_).update(PORT=5000),
        lambda all_: named(all_, "PodDisruptionBudget", "proxy-service").update(apiVersion="policy/v2"),
        lambda all_: named(all_, "HorizontalPodAutoscaler", "proxy-service")["spec"].pop("maxReplicas"),
        lambda all_: named(all_, "NetworkPolicy", "redis")["spec"]["ingress"][0].update(ports={"port": 1}),
        lambda all_: named(all_, "ServiceMonitor", "proxy-service")["spec"]["endpoints"][0].update(interval="15"),
        lambda all_: named(all_, "PrometheusRule", "api-gateway")["spec"]["groups"][0]["rules"][0].update(form="1m"),
    ],
)
def test_what_kubernetes_would_refuse_is_found(break_it: Break) -> None:
    objects = everything()
    break_it(objects)
    broken = [each for each in objects if each not in everything()]
    assert len(broken) == len(list(invalid(broken, VERSIONS[-1]))) == 1


def test_an_unknown_field_of_a_kustomization_is_no_silent_difference(tmp_path: Path) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\ncommonLabels: {a: b}\n", encoding="utf-8")
    with pytest.raises(ValueError, match="commonLabels"):
        build(tmp_path)

"""What a schema cannot see in Kubernetes objects: names that must meet, time that must suffice, rights to be without.

`problems(objects)` names each by the object it is in.
"""

from collections.abc import Callable, Iterator
from typing import Any

from gateway.config import ConfigError, load
from tests.deploy.kustomize import Object, pod

# terminationGracePeriodSeconds must be longer than everything before the process ends by itself, by at least this.
SPARE_SECONDS = 5


def problems(objects: list[Object], secrets: list[Object]) -> list[str]:
    """`secrets` are those that the objects may refer to without containing them."""
    known = [*objects, *secrets]
    return [
        f"{each['kind']} {each['metadata']['name']}: {problem}"
        for each in objects
        for problem in (*_references(each, known), *_pod(each), *_gateway(each, known))
    ]


def environment(container: Object, known: list[Object]) -> dict[str, str]:
    """The variables that a container gets; KeyError for one whose source is missing."""
    found: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        found |= _named(known, "ConfigMap", source["configMapRef"]["name"])["data"]
    for variable in container.get("env", ()):
        if "value" in variable:
            found[variable["name"]] = variable["value"]
        else:
            wanted = variable["valueFrom"]["secretKeyRef"]
            found[variable["name"]] = _named(known, "Secret", wanted["name"])["stringData"][wanted["key"]]
    return found


def _named(known: list[Object], kind: str, name: str) -> Object:
    for each in known:
        if each["kind"] == kind and each["metadata"]["name"] == name:
            return each
    raise KeyError(f"{kind} {name}")


def _templates(known: list[Object], selector: dict[str, str]) -> list[Object]:
    """The pod templates that a selector means."""
    return [
        each["spec"]["template"]
        for each in known
        if pod(each) and selector.items() <= each["spec"]["template"]["metadata"]["labels"].items()
    ]


def _ports(templates: list[Object]) -> set[Any]:
    ports = [port for each in templates for one in each["spec"]["containers"] for port in one.get("ports", ())]
    return {port["name"] for port in ports} | {port["containerPort"] for port in ports}


def _service(each: Object, known: list[Object]) -> Iterator[str]:
    spec = each["spec"]
    templates = _templates(known, spec["selector"])
    if not templates:
        yield "selects no pod"
    for port in spec["ports"]:
        if port["targetPort"] not in _ports(templates):
            yield f"no container has the port {port['targetPort']}"


def _autoscaler(each: Object, known: list[Object]) -> Iterator[str]:
    spec = each["spec"]
    target = spec["scaleTargetRef"]
    try:
        scaled = _named(known, target["kind"], target["name"])
    except KeyError as missing:
        yield f"scales what is not there: {missing}"
    else:
        if "replicas" in scaled["spec"]:
            yield "an apply of what it scales would take back its number of replicas"
    if not 2 <= spec["minReplicas"] < spec["maxReplicas"]:
        yield "fewer than two replicas, or no more at the most than at the least"


def _disruption_budget(each: Object, known: list[Object]) -> Iterator[str]:
    spec = each["spec"]
    if not _templates(known, spec["selector"]["matchLabels"]):
        yield "selects no pod"


def _network_policy(each: Object, known: list[Object]) -> Iterator[str]:
    spec = each["spec"]
    templates = _templates(known, spec["podSelector"].get("matchLabels", {}))
    if not templates:
        yield "selects no pod"
    for rule in spec.get("ingress", ()):
        for port in rule["ports"]:
            if port["port"] not in _ports(templates):
                yield f"no container has the port {port['port']}"


def _service_monitor(each: Object, known: list[Object]) -> Iterator[str]:
    spec = each["spec"]
    services = [
        one
        for one in known
        if one["kind"] == "Service" and spec["selector"]["matchLabels"].items() <= one["metadata"]["labels"].items()
    ]
    for endpoint in spec["endpoints"]:
        if not any(port["name"] == endpoint["port"] for one in services for port in one["spec"]["ports"]):
            yield f"no Service that it selects has the port {endpoint['port']}"


def _workload(each: Object, known: list[Object]) -> Iterator[str]:
    spec = each["spec"]
    labels = spec["template"]["metadata"]["labels"]
    spread = pod(each).get("topologySpreadConstraints", ())
    selectors = [spec["selector"], *(constraint["labelSelector"] for constraint in spread)]
    if not all(selector["matchLabels"].items() <= labels.items() for selector in selectors):
        yield "selects other pods than its own"
    for container in pod(each)["containers"]:
        try:
            environment(container, known)
        except KeyError as missing:
            yield f"a variable comes from what is not there: {missing}"


_REFERENCES: dict[str, Callable[[Object, list[Object]], Iterator[str]]] = {
    "Service": _service,
    "HorizontalPodAutoscaler": _autoscaler,
    "PodDisruptionBudget": _disruption_budget,
    "NetworkPolicy": _network_policy,
    "ServiceMonitor": _service_monitor,
    "Deployment": _workload,
    "StatefulSet": _workload,
}


def _references(each: Object, known: list[Object]) -> Iterator[str]:
    """What the object refers to and is not there."""
    rule = _REFERENCES.get(each["kind"])
    return iter(()) if rule is None else rule(each, known)


def _pod(each: Object) -> Iterator[str]:
    """The restricted Pod Security Standard, a read-only root, and bounds."""
    spec = pod(each)
    if not spec:
        return
    security = spec["securityContext"]
    if not (security.get("runAsNonRoot") and security.get("runAsUser", 0) > 0):
        yield "may run as root"
    if security.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "has no seccomp profile"
    if spec.get("automountServiceAccountToken") is not False:
        yield "gets a token for the API"
    for container in spec["containers"]:
        rights = container.get("securityContext", {})
        if rights.get("allowPrivilegeEscalation") is not False:
            yield f"{container['name']} may gain rights"
        if rights.get("readOnlyRootFilesystem") is not True:
            yield f"{container['name']} may write everywhere"
        if rights.get("capabilities") != {"drop": ["ALL"]}:
            yield f"{container['name']} keeps capabilities"
        resources = container.get("resources", {})
        if not all({"cpu", "memory"} <= set(resources.get(kind, ())) for kind in ("requests", "limits")):
            yield f"{container['name']} has no requests or limits"
        names = {port["name"] for port in container.get("ports", ())}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            if container.get(probe, {}).get("httpGet", {}).get("port", next(iter(names))) not in names:
                yield f"the {probe} of {container['name']} asks a port that it does not have"
        if container["image"].endswith(":latest") or ":" not in container["image"]:
            yield f"{container['name']} has no pinned image"


def _gateway(each: Object, known: list[Object]) -> Iterator[str]:
    container = next((one for one in pod(each).get("containers", ()) if one["name"] == "gateway"), None)
    if container is None:
        return
    try:
        config = load(environment(container, known), None)
    except (ConfigError, KeyError) as problem:
        yield f"the configuration is wrong: {problem}"
        return
    server = config.server
    pause = float(container["lifecycle"]["preStop"]["exec"]["command"][1])
    needed = pause + server.drain_delay + server.drain_timeout + SPARE_SECONDS
    if pod(each)["terminationGracePeriodSeconds"] < needed:
        yield f"is killed before it has drained, which may take {needed:g} s"
    if {port["containerPort"] for port in container["ports"]} != {server.port, config.admin.port}:
        yield "listens on other ports than its container says"
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    if probes != {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}:
        yield "is probed in the wrong places"

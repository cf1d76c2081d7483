"""What the Compose files must not contain, so that docker-compose 1.29 and Compose v2 understand them alike.

1.29 refuses the newer keys, Compose v2 some combinations, and a few things that both accept differ in meaning.
`violations` names each by where it stands. Left out: what the tools themselves report, which `config -q` finds.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

TOP_LEVEL = {"services", "volumes", "networks", "secrets"}
NEWER_KEYS = {"develop", "annotations", "attach", "include", "configs"}
_ALTERNATIVE = re.compile(r"\$\{\w+:?\+")
_NESTED = re.compile(r"\$\{\w+:?-[^}]*\$\{")


def violations(document: dict[str, Any], text: str = "") -> list[str]:
    return [
        *(f"top level: {key}" for key in document if key not in TOP_LEVEL and not key.startswith("x-")),
        *("${X:+y} is refused by 1.29" for _ in _ALTERNATIVE.findall(text)),
        *("nested defaults are wrong in 1.29" for _ in _NESTED.findall(text)),
        *("!reset and !override are refused by 1.29" for tag in ("!reset", "!override") if tag in text),
        *(
            f"{name}: {found}"
            for name, service in document.get("services", {}).items()
            for found in _of_service(service)
        ),
        *_shared_images(document.get("services", {})),
    ]


def _shared_images(services: dict[str, dict[str, Any]]) -> Iterator[str]:
    """v2 writes the service's name into the image. So the last one built has the tag, and the next `up` replaces the
    containers of the others."""
    built = Counter(service["image"] for service in services.values() if "build" in service and "image" in service)
    yield from (f"{image} is built by {count} services" for image, count in built.items() if count > 1)


def _of_service(service: dict[str, Any]) -> Iterator[str]:
    yield from (f"{key} is unknown to 1.29" for key in service if key in NEWER_KEYS)
    for name, value in _pairs(service.get("environment")):
        if not isinstance(value, str):
            yield f"environment {name} must be quoted"
    if isinstance(service.get("env_file"), list) and any(isinstance(each, dict) for each in service["env_file"]):
        yield "long env_file is refused by 1.29"
    depends = service.get("depends_on")
    for name, condition in depends.items() if isinstance(depends, dict) else ():
        if set(condition) - {"condition"}:
            yield f"depends_on {name}: only condition is known to 1.29"
    if "start_interval" in service.get("healthcheck", {}):
        yield "healthcheck.start_interval is refused by 1.29"
    limits = service.get("deploy", {}).get("resources", {}).get("limits", {})
    if "pids" in limits:
        yield "deploy limits.pids is refused by 1.29"
    if limits and {"pids_limit", "mem_limit", "cpus"} & set(service):
        yield "a limit beside deploy.resources.limits is refused by v2"
    if service.get("pull_policy") == "missing":
        yield "pull_policy: missing is refused by 1.29 (if_not_present)"
    build = service.get("build")
    if isinstance(build, dict) and {"tags", "secrets", "dockerfile_inline"} & set(build):
        yield "build has keys that 1.29 refuses"
    if build is not None and "image" not in service:
        yield "a built service needs image:, for its name differs between the versions"
    for port in service.get("ports", ()):
        if not isinstance(port, str):
            yield "ports are strings: 1.29 knows no host_ip in the long form"


def _pairs(environment: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(environment, dict):
        yield from environment.items()

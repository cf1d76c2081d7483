"""What `kubectl apply -k` would apply, for the part of kustomize that k8s uses.

That part is: resources (files and directories), namespace, configMapGenerator with literals and `behavior: merge`, and
images. Anything else in a kustomization is an error here. A test compares the result with kubectl's where there is one.
Left out: the hash in the name of a generated ConfigMap, and so in the references to it.
"""

from functools import cache
from pathlib import Path
from typing import Any

import yaml

Object = dict[str, Any]
_KNOWN = {"apiVersion", "kind", "namespace", "resources", "configMapGenerator", "images"}
_CLUSTER_SCOPED = {"Namespace"}


def build(directory: Path) -> list[Object]:
    """The objects, in the order in which the files name them; `ValueError` for what is not known here."""
    kustomization = yaml.safe_load((directory / "kustomization.yaml").read_text(encoding="utf-8"))
    if unknown := set(kustomization) - _KNOWN:
        raise ValueError(f"{directory}: {sorted(unknown)}")
    objects: list[Object] = []
    for name in kustomization["resources"]:
        path = directory / name
        objects += build(path) if path.is_dir() else documents(path)
    for generator in kustomization.get("configMapGenerator", ()):
        _generate(generator, objects)
    for each in objects:
        if "namespace" in kustomization and each["kind"] not in _CLUSTER_SCOPED:
            each["metadata"]["namespace"] = kustomization["namespace"]
        for container in pod(each).get("containers", ()):
            for image in kustomization.get("images", ()):
                if container["image"] == image["name"]:
                    container["image"] += f":{image['newTag']}"
    return objects


def documents(path: Path) -> list[Object]:
    """What a file holds, each time anew, with the uses of an anchor as objects of their own."""
    return [_unshared(each) for each in _parsed(path.read_text(encoding="utf-8"))]


@cache
def _parsed(text: str) -> list[Any]:
    return list(yaml.safe_load_all(text))


def pod(each: Object) -> Object:
    """The pod specification of a Deployment or StatefulSet; empty for anything else."""
    spec: Object = each.get("spec", {}).get("template", {}).get("spec", {})
    return spec


def files(directory: Path) -> set[Path]:
    """The files and directories' kustomizations that this one is made of, itself included."""
    path = directory / "kustomization.yaml"
    found = {path}
    for name in yaml.safe_load(path.read_text(encoding="utf-8"))["resources"]:
        found |= files((directory / name).resolve()) if (directory / name).is_dir() else {(directory / name).resolve()}
    return found


def _generate(generator: Object, objects: list[Object]) -> None:
    values = dict(literal.split("=", 1) for literal in generator["literals"])
    there = [each for each in objects if each["kind"] == "ConfigMap" and each["metadata"]["name"] == generator["name"]]
    if generator.get("behavior") == "merge":
        there[0]["data"] |= values
    elif there:
        raise ValueError(f"{generator['name']} is generated twice")
    else:
        metadata = {"name": generator["name"]}
        objects.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": values})


def _unshared(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _unshared(each) for key, each in value.items()}
    return [_unshared(each) for each in value] if isinstance(value, list) else value

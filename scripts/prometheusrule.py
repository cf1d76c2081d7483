"""Prints the Prometheus operator's PrometheusRule that holds the groups of `monitoring/rules/*.yml`, all of them.

    python scripts/prometheusrule.py >k8s/monitoring/prometheusrule.yaml

Left out: the comments of the rule files. A test fails when the file in k8s is not what this prints.
"""

from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).resolve().parents[1] / "monitoring" / "rules"
HEADER = "# Made of monitoring/rules by scripts/prometheusrule.py: change it there.\n"


def resource() -> dict[str, Any]:
    groups: list[dict[str, Any]] = []
    for path in sorted(RULES.glob("*.yml")):
        groups += yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    labels = {"app.kubernetes.io/name": "proxy-service", "app.kubernetes.io/part-of": "api-gateway"}
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "api-gateway", "labels": labels},
        "spec": {"groups": groups},
    }


if __name__ == "__main__":
    print(HEADER + yaml.safe_dump(resource(), sort_keys=False, width=118, allow_unicode=True), end="")

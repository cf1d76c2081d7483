"""JSON Schemas for what k8s/monitoring uses of the Prometheus operator's types, which Kubernetes' own schemas lack.

Narrower than the operator's (https://prometheus-operator.dev/docs/api-reference/api/): a field that is not here is
refused, so that a misspelt one is.
"""

from typing import Any

Schema = dict[str, Any]
TEXT: Schema = {"type": "string", "minLength": 1}
TEXTS: Schema = {"type": "object", "additionalProperties": {"type": "string"}}
DURATION: Schema = {
    "type": "string",
    "pattern": "^(0|(([0-9]+)w)?(([0-9]+)d)?(([0-9]+)h)?(([0-9]+)m)?(([0-9]+)s)?(([0-9]+)ms)?)$",
    "minLength": 1,
}


def _object(required: tuple[str, ...], **properties: Schema) -> Schema:
    return {"type": "object", "required": list(required), "properties": properties, "additionalProperties": False}


def _resource(kind: str, spec: Schema) -> Schema:
    return _object(
        ("apiVersion", "kind", "metadata", "spec"),
        apiVersion={"const": "monitoring.coreos.com/v1"},
        kind={"const": kind},
        metadata=_object(("name", "namespace", "labels"), name=TEXT, namespace=TEXT, labels=TEXTS),
        spec=spec,
    )


_ENDPOINT = _object(
    ("port",),
    port=TEXT,
    path={"type": "string", "pattern": "^/"},
    interval=DURATION,
    scrapeTimeout=DURATION,
    honorLabels={"type": "boolean"},
    relabelings={"type": "array", "items": _object(("targetLabel", "replacement"), targetLabel=TEXT, replacement=TEXT)},
)
_RULE: Schema = {
    "oneOf": [
        _object(("record", "expr"), record=TEXT, expr=TEXT, labels=TEXTS),
        _object(("alert", "expr"), alert=TEXT, expr=TEXT, labels=TEXTS, annotations=TEXTS, **{"for": DURATION}),
    ]
}

SERVICE_MONITOR = _resource(
    "ServiceMonitor",
    _object(
        ("selector", "endpoints"),
        selector=_object(("matchLabels",), matchLabels=TEXTS),
        endpoints={"type": "array", "minItems": 1, "items": _ENDPOINT},
    ),
)
PROMETHEUS_RULE = _resource(
    "PrometheusRule",
    _object(
        ("groups",),
        groups={
            "type": "array",
            "minItems": 1,
            "items": _object(
                ("name", "rules"), name=TEXT, interval=DURATION, rules={"type": "array", "minItems": 1, "items": _RULE}
            ),
        },
    ),
)
SCHEMAS = {"ServiceMonitor": SERVICE_MONITOR, "PrometheusRule": PROMETHEUS_RULE}

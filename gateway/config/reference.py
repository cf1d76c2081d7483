"""What the declarations of the settings say, as `.env.example` and as the tables of `docs/configuration.md`.

    python -m gateway.config.reference env > .env.example
    python -m gateway.config.reference upstream|route|rate_limit|consumer|tenant|tier|issuer|workflow|step

Tests compare the files with this, so that names, defaults and ranges cannot drift apart.
"""

import sys
from collections.abc import Callable, Iterator
from typing import get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from gateway.config.file import FileRoute, FileUpstream
from gateway.config.identity_file import FileConsumer, FileTenant, FileTier
from gateway.config.issuer_file import FileIssuer
from gateway.config.schema import Env, Variable, allowed
from gateway.config.settings import RateLimit
from gateway.config.variables import ALIASES, VARIABLES
from gateway.config.workflow_settings import FileStep, FileWorkflow, SagaUndo

# Chosen for the drills of the operations runbook: they must show what they promise within seconds.
EXAMPLE: dict[str, tuple[str, str]] = {
    "UPSTREAM_URL": ("http://127.0.0.1:5001", "the stub upstream"),
    "RATE_LIMIT_CAPACITY": ("20", "100 quick requests meet some 429s; raise it for production"),
    "RATE_LIMIT_REFILL_RATE": (
        "10",
        "they empty the bucket even where each takes 75 ms; it is full again after 2 s",
    ),
    "CIRCUIT_BREAKER_FAILURE_THRESHOLD": ("2", "a few failing requests trip the breaker, also right after those above"),
}

FILE_ONLY = {
    "endpoints": 'The addresses: `"host:port"`, `"http://host:port"` or `{host, port, weight}`; weight from 1 to 1000',
    "scheme": "`http` or `https`; what the endpoints' URLs say, else `http`",
    "base_path": "Put in front of the forwarded path, byte for byte; nothing",
    "authority": "What `Host` says to the upstream; the first endpoint's address",
    "tool": "Whether it is a tool service, which `TOOL_TIMEOUT` and `TOOL_MAX_ATTEMPTS` are for",
    "name": "Label in logs and metrics; unique",
    "prefix": "Longest prefix wins, whole segments: `/api` takes `/api` and `/api/x`, `/api/` only what is below",
    "upstream": "Where the requests go; required without `workflow`",
    "host": "Only requests for this host; any",
    "methods": "Only these methods; any",
    "strip_prefix": "Take the prefix off before forwarding",
    "latency_group": "Routes of an upstream with one name have answers whose times are comparable",
    "preserve_host": "Forward the client's `Host` instead of the upstream's authority",
    "rate_limit": "Which rate limit; `null` or `none` for none",
    "websocket": "Let WebSocket tunnels through",
    "schema": "A JSON Schema (a file) that the bodies must satisfy; none",
    "openapi": "An OpenAPI document (a file) that the requests must satisfy; none",
    "unknown_operation": "What becomes of requests that the OpenAPI document does not describe",
    "Validate.mode": "Refuse what is invalid, or let it pass and count it",
    "Validate.max_body_bytes": "Largest body that is held to be validated",
    "tenants": "With authentication: only consumers of one of these tenants; any",
    "consumers": "With authentication: only these consumers; any",
    "scopes": "With authentication: only consumers that have all of these scopes; none needed",
    "FileConsumer.tenant": "Whose limits it shares; none",
    "FileConsumer.scopes": "What it may, for `allow.scopes` of routes; nothing",
    "FileConsumer.rate_limit": "A rate limit for it alone, on top of all others; none",
    "FileConsumer.keys": "Its keys as `gateway keys create --yaml` prints them: `{id, sha256, not_after}`; none",
    "FileTenant.tier": "What it may use; nothing bounds it",
    "FileTier.rate_limit": "A rate limit of each tenant, over all routes; none",
    "FileTier.concurrency": "Requests of a tenant in flight, at each gateway; unlimited",
    "FileTier.quota_per_day": "Requests of a tenant in a day of UTC, in the fleet; unlimited",
    "FileTier.priority": "The best priority that requests of a tenant have; that of the route",
    "issuers": "With authentication: jwt, whose tokens count; those of all issuers",
    "Deliver.enabled": "Answer 202 once the request is in the journal, and deliver it then",
    "Deliver.schedule": "Pauses after the first attempt and each further one",
    "Deliver.jitter": "By up to so much of itself a pause is longer",
    "Deliver.timeout": "Bounds one attempt",
    "Deliver.concurrency": "Attempts at once, of each worker",
    "Deliver.order_by": "A field of the request: of messages with one value of it one is under way, in order; none",
    "Deliver.secret_file": "Secrets that sign the messages (Standard Webhooks), `whsec_…`, one a line; not signed",
    "Deliver.max_message_bytes": "Largest body; beyond it 413",
    "hooks": "Python code that is asked about requests and answers, in this order: docs/hooks.md; none",
    "HookEntry.use": "Where the code is, as `module:attribute`",
    "HookEntry.name": "Label in logs and metrics, unique on the route; what `use` says",
    "HookEntry.on_failure": "What becomes of a request for which it fails; `HOOKS_ON_FAILURE`",
    "HookEntry.settings": "What its class is called with; nothing",
    "rewrite": "Paths that become others, by template; the first that matches counts; none",
    "RewriteRule.path": "The path of the request, such as `/users/{id}/files/{rest*}`",
    "RewriteRule.to": "What it becomes below `base_path`, such as `/v2/files/{id}/{rest}`",
    "FieldChanges.set": "Header fields that replace those of the same name; none",
    "FieldChanges.append": "Header fields that are added; none",
    "FieldChanges.remove": "Header fields that are taken out; none",
    "Split.to": "The upstreams that share the requests of the route, each once, in place of `upstream`; none",
    "Split.sticky": "What a client keeps its upstream by: nothing, its consumer or else its address, or a field",
    "Split.field": "The header field whose value is this; where it is absent, as with `client`; none",
    "SplitShare.upstream": "One of them",
    "SplitShare.weight": "Its part of the requests, of the sum of all weights; 0: none",
    "Mirror.upstream": "A shadow that gets copies of requests, and that only mirrors use; none",
    "Mirror.percent": "Which part of the requests is copied",
    "Mirror.methods": "Only requests with these methods; those of the route",
    "Mirror.max_in_flight": "Copies at once, on this host; beyond it none is made",
    "Mirror.max_body_bytes": "Of a request with a larger body no copy is made",
    "Mirror.max_answer_bytes": "So much of the shadow's answer is read, before it is broken off",
    "Fallback.upstream": "Asked when the upstream of the route does not answer, one after the other, each once; none",
    "Fallback.on": "What the fallback is used on: refusals of the gateway, and answers with these statuses",
    "Fallback.after": "How long the upstream of the route has, retries included; an equal part of `timeouts.total`",
    "Fallback.non_idempotent": "Also for a POST or PATCH that an upstream may have acted on",
    "Fallback.stale_if_error": "How old the last good answer to a GET may be that is given in the end; 0 keeps none",
    "Fallback.stale_max_bytes": "What these answers take in memory at most, on this host",
    "FallbackResponse.status": "Status of an answer of the gateway's own, where no upstream has one; no such answer",
    "FallbackResponse.body": "Its body; empty",
    "FallbackResponse.content_type": "Its `Content-Type`",
    "workflow": "Requests start runs of this workflow, in place of going to an `upstream`; none",
    "FileWorkflow.steps": "What a run does, one after the other",
    "FileWorkflow.deadline": "A run that has not come to its pivot by then, or to its end, is compensated",
    "FileWorkflow.completion_deadline": "How long a compensation is tried, and all from the pivot on",
    "FileWorkflow.answer": "Told to a client that waits for a run that succeeds: a template; nothing",
    "FileWorkflow.max_input_bytes": "Largest input; beyond it 413",
    "FileWorkflow.max_result_bytes": "A larger answer of a step is not kept for the templates of others",
    "FileStep.name": "Of the step, unique in the workflow",
    "FileStep.upstream": "Where the request goes",
    "FileStep.method": "Of the request",
    "FileStep.path": "Path and query below the upstream's `base_path`: a template",
    "FileStep.headers": "Fields of the request: templates; none",
    "FileStep.body": "Its JSON: a template; none",
    "FileStep.success": "Answers by which it is done",
    "FileStep.failed": "Answers by which it is certain that it was not done, and will not be",
    "FileStep.timeout": "Bounds one attempt",
    "FileStep.compensate": "The request that undoes it, or `none`. A write before the pivot must say; nothing",
    "FileStep.pivot": "Behind it nothing is undone: it and what follows is tried until it works",
    "SagaRetry.max_attempts": "Attempts, before it is taken for possible that it was done, and it is undone",
    "SagaRetry.base_delay": "Pause after the first attempt, twice as long each time",
    "SagaRetry.max_delay": "The longest pause",
    "SagaUndo.upstream": "Where the request goes; that of the step",
    "SagaUndo.method": "Of the request",
    "SagaUndo.path": "Path and query: a template, with the answer of the step itself, too",
    "SagaUndo.headers": "Fields of the request: templates; none",
    "SagaUndo.body": "Its JSON: a template; none",
    "SagaUndo.success": "Answers by which it is undone; any other is tried again",
    "SagaUndo.timeout": "Bounds one attempt",
    "forward_token": "With authentication: jwt, whether the upstream gets the token, too",
    "FileIssuer.issuer": "What its tokens have as `iss`",
    "FileIssuer.audience": "Tokens for one of these (`aud`) count, with `none` those without. One needs no list",
    "FileIssuer.algorithms": "With which it signs. A token with another one does not count",
    "FileIssuer.jwks_url": "Where its public keys are (RFC 7517): `https`, or `http` on this machine; one of three",
    "FileIssuer.jwks_file": "A file with its public keys, read again when it changes; see `jwks_url`",
    "FileIssuer.secret_file": "A file with the secret of HS256 or its like, read when it changes; see `jwks_url`",
    "FileIssuer.ca_file": "CA certificates (PEM) for the URL; those of the system",
    "FileIssuer.allow_http": "Take keys from an `http` URL of another machine, as whoever is between wishes",
    "FileIssuer.refresh": "Between two fetches of the keys",
    "FileIssuer.typ": "The type that tokens must have, such as `at+jwt` (RFC 9068); any",
    "FileIssuer.required_claims": "What tokens must say besides, such as `token_use: access`; nothing",
    "FileIssuer.skew": "By how much the clock of the issuer may be wrong",
    "FileIssuer.max_token_bytes": "Longer tokens do not count",
    "FileIssuer.consumer_prefix": "Put in front of `claims.consumer`; the issuer's name and `:`",
    "FileIssuer.tenant": "The tenant of all its tokens; none",
    "FileIssuer.fields": "Header fields for the upstream, each with the claim that it is made from; none",
    "FileClaims.consumer": "The claim that says who asks",
    "FileClaims.tenant": "The claim that says whose tenant asks, which each token must have then; none",
    "FileClaims.scopes": "The claim with the scopes, as one text with blanks or as a list",
    "FileKey.id": "The part of the key that is public",
    "FileKey.sha256": "Of the whole key",
    "FileKey.not_after": "Until when it is good; for ever",
}
"""By the name of the key, or by model and key where several models have one of that name."""


def meaning_of(model: type[BaseModel], key: str) -> str:
    """What a key of the file that has no variable means, and behind the last semicolon what it is when left out."""
    return FILE_ONLY.get(f"{model.__name__}.{key}") or FILE_ONLY.get(key, "")


def env_example() -> str:
    """The text of `.env.example`."""
    lines = [
        "# Every setting of the gateway. Copy to .env and change what you need. Commented out: the default.",
        "# Variables of the process environment win over this file. An empty value counts as not set.",
        "# Times may have a unit (500ms, 5s, 2m), sizes too (64KiB, 1MB); ${NAME} and ${NAME:-default} are expanded.",
        "# `gateway check` says what is wrong; docs/configuration.md says more.",
    ]
    group: type[BaseModel] | None = None
    for name, variable in VARIABLES.items():
        if variable.section is not group:
            group = variable.section
            lines += ["", f"## {group.__doc__}"]
        lines.append(f"# {_sentence(variable)}")
        value, why = EXAMPLE.get(name, (None, None))
        if value is None:
            lines.append(f"#{name}={variable.default_text}")
        else:
            lines += [f"# Here {value}: {why}.", f"{name}={value}"]
    lines += [
        "",
        "## Aliases of the platform runbook, in their own units; beside the name they stand for they must agree",
    ]
    for name, alias in ALIASES.items():
        lines += [f"# {alias.target}, {alias.meaning}. Not set by default; {alias.allowed}.", f"#{name}="]
    return "\n".join(lines) + "\n"


def upstream_table() -> str:
    """The table of the keys of an upstream, in Markdown, for docs/configuration.md."""
    return _file_table(FileUpstream)


def route_table() -> str:
    """The table of the keys of a route, in Markdown, for docs/configuration.md."""
    return _file_table(FileRoute)


def rate_limit_table() -> str:
    """The table of the keys of a rate limit policy, in Markdown, for docs/configuration.md."""
    return _file_table(RateLimit)


def consumer_table() -> str:
    """The table of the keys of a consumer, in Markdown, for docs/configuration.md."""
    return _file_table(FileConsumer)


def tenant_table() -> str:
    """The table of the keys of a tenant, in Markdown, for docs/configuration.md."""
    return _file_table(FileTenant)


def tier_table() -> str:
    """The table of the keys of a tier, in Markdown, for docs/configuration.md."""
    return _file_table(FileTier)


def issuer_table() -> str:
    """The table of the keys of an issuer, in Markdown, for docs/configuration.md."""
    return _file_table(FileIssuer)


def workflow_table() -> str:
    """The table of the keys of a workflow, in Markdown, for docs/configuration.md."""
    return _file_table(FileWorkflow)


def step_table() -> str:
    """The table of the keys of a step, and of what compensates it, in Markdown, for docs/configuration.md."""
    undo = "".join(f"| {' | '.join(row)} |\n" for row in _file_rows(SagaUndo, "compensate."))
    return _file_table(FileStep) + undo


def _sentence(variable: Variable) -> str:
    default = variable.default_text
    when_unset = f"Default {default}" if default else f"Not set: {variable.env.unset}"
    return f"{variable.env.meaning}. {when_unset}; {variable.allowed}."


def _file_table(model: type[BaseModel]) -> str:
    return _table(("key", "left out", "allowed", "meaning"), list(_file_rows(model, "")))


def _file_rows(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str, str]]:
    # The fields that only the entry has come first, in its own order. Then come those that it shares with the
    # environment.
    for name in dict.fromkeys([*model.__annotations__, *model.model_fields]):
        field = model.model_fields[name]
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            yield from _file_rows(nested, f"{prefix}{name}.")
            continue
        env = next((note for note in field.metadata if isinstance(note, Env)), None)
        if env is not None:
            left_out, meaning = f"`{env.name}`", env.meaning
        else:
            meaning = meaning_of(model, name)
            default = field.get_default(call_default_factory=True)
            empty = default in (None, "", [], {})
            left_out = "required" if default is PydanticUndefined else "" if empty else _code(default)
            if left_out == "" and ";" in meaning:
                meaning, left_out = (part.strip() for part in meaning.rsplit(";", 1))
        text = "a list of endpoints" if get_origin(nested) is list and "FileEndpoint" in str(nested) else None
        yield f"`{prefix}{name}`", left_out, text or allowed(nested, field.metadata), meaning


def _code(value: object) -> str:
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text}`" if text else ""


def _table(header: tuple[str, ...], rows: list[tuple[str, str, str, str]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


_OUTPUTS: dict[str, Callable[[], str]] = {
    "env": env_example,
    "upstream": upstream_table,
    "route": route_table,
    "rate_limit": rate_limit_table,
    "consumer": consumer_table,
    "tenant": tenant_table,
    "tier": tier_table,
    "issuer": issuer_table,
    "workflow": workflow_table,
    "step": step_table,
}

if __name__ == "__main__":
    sys.stdout.write(_OUTPUTS[sys.argv[1]]())

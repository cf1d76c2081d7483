"""Every reason for which the gateway answers itself, or breaks an answer off: the one table.

A reason is a stable word. It stands in the body of the answer, in `Proxy-Status`, in the log line and in the label of a
metric, and alerts are written against it, so a word never changes its meaning. To add one, add a line here; its metric
series, its title and its category follow.

The categories are the ten of the runbooks. A category says where to look: `Network` and `Timeout` between the gateway
and the upstream, `Dependency` at the upstream itself, `RateLimit` at the demand, `Validation` at the client,
`Configuration` at the gateway. Nothing is imported here, because every layer needs the table.
"""

from typing import Final, NamedTuple

TIMEOUT: Final = "Timeout"
NETWORK: Final = "Network"
AUTHENTICATION: Final = "Authentication"
VALIDATION: Final = "Validation"
RATE_LIMIT: Final = "RateLimit"
INVALID_STATE: Final = "InvalidState"
CANCELLATION: Final = "Cancellation"
CONFIGURATION: Final = "Configuration"
DEPENDENCY: Final = "Dependency"
UNKNOWN: Final = "Unknown"

CATEGORIES: Final = (
    TIMEOUT,
    NETWORK,
    AUTHENTICATION,
    VALIDATION,
    RATE_LIMIT,
    INVALID_STATE,
    CANCELLATION,
    CONFIGURATION,
    DEPENDENCY,
    UNKNOWN,
)


class Reason(NamedTuple):
    """`status` is the usual one; a refusal may carry another. `error` is the usual RFC 9209 error type, None for a
    reason that is never answered."""

    status: int
    title: str
    category: str
    error: str | None


REASONS: Final[dict[str, Reason]] = {
    # What the client sent.
    "bad_request": Reason(400, "The request is malformed", VALIDATION, "http_request_error"),
    "uri_too_long": Reason(414, "The request line is too long", VALIDATION, "http_request_error"),
    "headers_too_large": Reason(431, "The header section is too large", VALIDATION, "http_request_error"),
    "body_too_large": Reason(413, "The request body is too large", VALIDATION, "http_request_error"),
    "request_timeout": Reason(408, "The request did not arrive in time", TIMEOUT, "http_request_error"),
    "response_timeout": Reason(408, "The response was taken too slowly", TIMEOUT, "http_request_error"),
    "not_found": Reason(404, "No route matches", VALIDATION, "destination_not_found"),
    "method_not_allowed": Reason(405, "The method is not allowed here", VALIDATION, "http_request_denied"),
    "body_malformed": Reason(400, "The request body cannot be read", VALIDATION, "http_request_error"),
    "unsupported_media_type": Reason(415, "The request body is of another kind", VALIDATION, "http_request_error"),
    "validation_failed": Reason(422, "The request is not what the API takes", VALIDATION, "http_request_error"),
    "unknown_operation": Reason(404, "The API has no such operation", VALIDATION, "http_request_denied"),
    "validation_unavailable": Reason(503, "The request could not be validated", TIMEOUT, "proxy_internal_error"),
    "loop_detected": Reason(508, "The request has been here before", CONFIGURATION, "proxy_loop_detected"),
    # Who asks.
    "unauthenticated": Reason(401, "It is not known who asks", AUTHENTICATION, "http_request_denied"),
    "forbidden": Reason(403, "The route is not for whoever asks", AUTHENTICATION, "http_request_denied"),
    "too_many_attempts": Reason(429, "Too many failed attempts", AUTHENTICATION, "http_request_denied"),
    "auth_unavailable": Reason(503, "It cannot be checked who asks", DEPENDENCY, "destination_unavailable"),
    "quota_exceeded": Reason(429, "The quota of the day is used up", RATE_LIMIT, "http_request_denied"),
    "concurrency_limited": Reason(429, "Too many requests at once", RATE_LIMIT, "http_request_denied"),
    # Python hooks.
    "hook_refused": Reason(403, "A hook of the route has refused the request", VALIDATION, "http_request_denied"),
    "hook_failed": Reason(500, "A hook of the route has failed", CONFIGURATION, "proxy_internal_error"),
    # Idempotency keys.
    "idempotency_key_missing": Reason(400, "An Idempotency-Key is missing", VALIDATION, "http_request_error"),
    "idempotency_key_malformed": Reason(400, "The Idempotency-Key is malformed", VALIDATION, "http_request_error"),
    "idempotency_key_in_progress": Reason(409, "The first request is under way", INVALID_STATE, "http_request_denied"),
    "idempotency_key_reused": Reason(422, "The key belongs to another request", VALIDATION, "http_request_denied"),
    "idempotency_outcome_unknown": Reason(
        409, "The first request may have been carried out", INVALID_STATE, "http_request_denied"
    ),
    "idempotency_answer_not_kept": Reason(
        409, "The answer of the first request was not kept", INVALID_STATE, "http_request_denied"
    ),
    "idempotency_full": Reason(503, "There is no room for another key", RATE_LIMIT, "connection_limit_reached"),
    # The outbox.
    "outbox_full": Reason(503, "There is no room for another message", RATE_LIMIT, "connection_limit_reached"),
    # Sagas.
    "saga_full": Reason(503, "There is no room for another run", RATE_LIMIT, "connection_limit_reached"),
    "saga_input_invalid": Reason(422, "The workflow needs other input", VALIDATION, "http_request_error"),
    # What must not be lost.
    "journal_unavailable": Reason(503, "The promise cannot be kept now", DEPENDENCY, "destination_unavailable"),
    # What the gateway can take.
    "rate_limited": Reason(429, "Too many requests", RATE_LIMIT, "http_request_denied"),
    "overloaded": Reason(429, "The gateway is at its limit", RATE_LIMIT, "connection_limit_reached"),
    # An upstream that answers in time never fills its bulkhead.
    "bulkhead_full": Reason(503, "The upstream is at its limit", DEPENDENCY, "connection_limit_reached"),
    "tunnel_limit": Reason(503, "Too many tunnels are open", RATE_LIMIT, "connection_limit_reached"),
    "client_tunnel_limit": Reason(429, "Too many tunnels of one client", RATE_LIMIT, "connection_limit_reached"),
    "draining": Reason(503, "The gateway is stopping", INVALID_STATE, "destination_unavailable"),
    "internal_error": Reason(500, "The gateway failed", UNKNOWN, "proxy_internal_error"),
    # What the upstream did.
    "circuit_open": Reason(
        503, "The upstream is failing and is being left alone", DEPENDENCY, "destination_unavailable"
    ),
    "endpoints_out": Reason(
        503, "Every endpoint of the upstream is out of service", DEPENDENCY, "destination_unavailable"
    ),
    "upstream_timeout": Reason(504, "The upstream did not answer in time", TIMEOUT, "http_response_timeout"),
    "upstream_unreachable": Reason(502, "The upstream cannot be reached", NETWORK, "connection_refused"),
    "upstream_protocol_error": Reason(502, "The upstream did not answer in HTTP", DEPENDENCY, "http_protocol_error"),
    "upstream_truncated": Reason(502, "The upstream broke off its answer", NETWORK, "http_response_incomplete"),
    # Never answered: nobody is there to hear it.
    "client_closed": Reason(499, "The client left", CANCELLATION, None),
}

GATEWAY_REASONS: Final = frozenset(
    {"overloaded", "draining", "not_found", "loop_detected", "internal_error"}
    | {"unauthenticated", "forbidden", "too_many_attempts", "auth_unavailable", "quota_exceeded", "concurrency_limited"}
    | {"idempotency_full", "journal_unavailable", "outbox_full", "saga_full", "hook_refused", "hook_failed"}
)
"""Refusals that concern no upstream, even where the route is known."""

UPSTREAM_REASONS: Final = frozenset(
    {"upstream_timeout", "upstream_unreachable", "upstream_protocol_error", "upstream_truncated"}
)
"""What a failed attempt leads to: the upstream's failure, not a decision of the gateway."""

"""The ten error categories of the runbooks, and which of them a refusal or a status belongs to.

Every failed attempt and every refusal belongs to exactly one category, whatever it is called elsewhere. The category
says where to look: `Network` and `Timeout` between here and the upstream, `Dependency` at the upstream itself,
`RateLimit` at the demand, `Validation` at the client, `Configuration` at ourselves.
"""

TIMEOUT = "Timeout"
NETWORK = "Network"
AUTHENTICATION = "Authentication"
VALIDATION = "Validation"
RATE_LIMIT = "RateLimit"
INVALID_STATE = "InvalidState"
CANCELLATION = "Cancellation"
CONFIGURATION = "Configuration"
DEPENDENCY = "Dependency"
UNKNOWN = "Unknown"

CATEGORIES = (
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

_BY_REASON = {
    "rate_limited": RATE_LIMIT,
    "overloaded": RATE_LIMIT,
    # An upstream that answers in time never fills its bulkhead.
    "bulkhead_full": DEPENDENCY,
    "circuit_open": DEPENDENCY,
    "endpoints_out": DEPENDENCY,
    "upstream_timeout": TIMEOUT,
    "upstream_unreachable": NETWORK,
    "upstream_truncated": NETWORK,
    "upstream_protocol_error": DEPENDENCY,
    "draining": INVALID_STATE,
    "bad_request": VALIDATION,
    "uri_too_long": VALIDATION,
    "headers_too_large": VALIDATION,
    "body_too_large": VALIDATION,
    "request_timeout": TIMEOUT,
    "response_timeout": TIMEOUT,
    "not_found": VALIDATION,
    "method_not_allowed": VALIDATION,
    "tunnel_limit": RATE_LIMIT,
    "loop_detected": CONFIGURATION,
    "client_closed": CANCELLATION,
    "internal_error": UNKNOWN,
}

REASONS = tuple(_BY_REASON)
"""Every reason known here; their series exist from the start."""

_BY_STATUS = {
    401: AUTHENTICATION,
    403: AUTHENTICATION,
    407: AUTHENTICATION,
    408: TIMEOUT,
    409: INVALID_STATE,
    412: INVALID_STATE,
    423: INVALID_STATE,
    425: INVALID_STATE,
    428: INVALID_STATE,
    429: RATE_LIMIT,
    499: CANCELLATION,
    502: NETWORK,
    504: TIMEOUT,
    505: CONFIGURATION,
    508: CONFIGURATION,
    511: AUTHENTICATION,
    # Of content delivery networks, when their origin does not answer.
    522: TIMEOUT,
    524: TIMEOUT,
}


def category_of_reason(reason: str) -> str:
    """The category of a refusal's stable word; `Unknown` for a word that is not in the table."""
    return _BY_REASON.get(reason, UNKNOWN)


def category_of_status(status: int) -> str:
    """The category of an upstream's answer. Below 400 there is no error, and the category is `Unknown`."""
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    if 400 <= status < 500:
        return VALIDATION
    return DEPENDENCY if 500 <= status < 600 else UNKNOWN

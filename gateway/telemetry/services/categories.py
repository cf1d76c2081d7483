"""Which of the ten error categories of the runbooks an answer of an upstream, or a refusal, belongs to.

Every failed attempt and every refusal belongs to exactly one category. What each of them means, and the categories of
refusals, stand in `gateway.reasons`.
"""

from typing import Final

from gateway.reasons import (
    AUTHENTICATION,
    CANCELLATION,
    CONFIGURATION,
    DEPENDENCY,
    INVALID_STATE,
    NETWORK,
    RATE_LIMIT,
    REASONS,
    TIMEOUT,
    UNKNOWN,
    VALIDATION,
)

_BY_STATUS: Final = {
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
    known = REASONS.get(reason)
    return UNKNOWN if known is None else known.category


def category_of_status(status: int) -> str:
    """The category of an upstream's answer. Below 400 there is no error, and the category is `Unknown`."""
    known = _BY_STATUS.get(status)
    if known is not None:
        return known
    if 400 <= status < 500:
        return VALIDATION
    return DEPENDENCY if 500 <= status < 600 else UNKNOWN

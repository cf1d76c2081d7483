"""The audit log: one line for each change that an operator made.

Logger `gateway.audit`, level INFO: who (how they proved it, and what they call themselves in `X-Operator`, which proves
nothing), from where, what, why, and the state before and after. Refused access is logged by `access`, under the same
logger.
"""

import logging
import re
from typing import Any

from gateway.control.api.operation import Call

_log = logging.getLogger("gateway.audit")
_OPERATOR = re.compile(r"[\x20-\x7e]{1,64}")


def record(
    action: str,
    call: Call[Any, Any],
    *,
    before: object,
    after: object,
    scope: str,
    reason: str | None = None,
    duration: float | None = None,
) -> None:
    """`call` is the request, admitted. `duration` in seconds, where the change has an end."""
    actor = call.actor
    assert actor is not None  # noqa: S101 - only operations that need access change something
    operator = operator_of(call)
    _log.info(
        "%s%s by %s from %s%s",
        action,
        f" of {call.service}" if call.service else "",
        operator or actor.by,
        actor.peer,
        f": {reason}" if reason else "",
        extra={
            "event": "admin_action",
            "action": action,
            "service": call.service or None,
            "authenticated_by": actor.by,
            "operator": operator,
            "peer": actor.peer,
            "reason": reason,
            "duration": duration,
            "before": before,
            "after": after,
            "scope": scope,
            "request_id": call.request_id,
        },
    )


def operator_of(call: Call[Any, Any]) -> str | None:
    """What the caller says its name is, if that is fit for a log."""
    given = call.request.headers.get("X-Operator", "").strip()
    return given if _OPERATOR.fullmatch(given) else None

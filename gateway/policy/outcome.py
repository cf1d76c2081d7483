"""How an attempt or a whole exchange ended, as far as the policies care.

Three endings, as in Netflix concurrency-limits: a success, a failure that counts against the upstream, and one that
says nothing about it (the client left, the refusal was our own).
"""

from enum import Enum
from typing import Final

ABOUT_THE_REQUEST: Final = frozenset({501, 505, 506, 507, 508, 510, 511})
"""5xx statuses that speak of the request or of what it asks for. The upstream that sends them is well, and a client can
bring them about at will: 501 and 505 (RFC 9110 sections 15.6.2 and 15.6.6) refuse its method and version, 506 (RFC
2295) and 508 (RFC 5842) the resource, 507 (RFC 4918) what it would store, 510 (RFC 2774) what it leaves out, 511 (RFC
6585) its login to a network."""

FAILURE_STATUSES: Final = frozenset(range(500, 600)) - ABOUT_THE_REQUEST
"""What counts as a failure of an upstream unless it is configured otherwise: 500, 502, 503, 504, and what has no other
meaning (509 and 512 to 599, among them those of content delivery networks)."""


class Outcome(Enum):
    """One ending. `IGNORED` is the one that says nothing about the upstream."""

    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


# The hot path uses these names, because looking up a member of an enum costs as much as a call.
SUCCESS: Final = Outcome.SUCCESS
FAILURE: Final = Outcome.FAILURE
IGNORED: Final = Outcome.IGNORED

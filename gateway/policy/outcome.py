"""How an attempt or a whole exchange ended, as far as the policies care.

Three endings, as in Netflix concurrency-limits: a success, a failure that counts against the upstream, and one that
says nothing about it (the client left, the refusal was our own).
"""

from enum import Enum


class Outcome(Enum):
    SUCCESS = "success"
    FAILURE = "failure"
    IGNORED = "ignored"


# HOT: looking up a member of an enum costs as much as a call.
SUCCESS, FAILURE, IGNORED = Outcome

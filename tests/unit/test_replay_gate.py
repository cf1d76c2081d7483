"""Stored answers as they are given again, or not."""

import hashlib

import pytest

from gateway.idempotency.promise import Promise
from gateway.journal.idempotency import Found
from gateway.proxy.answers.refusals import Refusal
from gateway.proxy.answers.stored_answer import StoredAnswer
from gateway.proxy.gate import Resumption
from gateway.proxy.gates.idempotency import OUTCOMES, ReplayGate
from gateway.wire.message.response import MAX_FIELDS
from tests.support.tickets import request, ticket


def given(head: bytes, status: int = 201, *, whole: bool = True) -> tuple[Resumption, dict[str, int]]:
    """What a repetition gets whose stored answer has this head, and what was counted."""
    counts = dict.fromkeys(OUTCOMES, 0)
    gate = ReplayGate(counts)
    asking = ticket(request(method="POST"))
    assert asking.complete
    asking.promise = promise = Promise(hashlib.sha256())
    promise.found = Found("finished", promise.content.digest(), status, whole, head, b"made", 0.0)
    told: list[Resumption] = []
    gate.start(asking, told.append)
    (answer,) = told
    return answer, counts


@pytest.mark.parametrize("fields", [1, MAX_FIELDS + 9])
def test_a_stored_answer_is_given_again_also_with_the_fields_that_the_route_has_added(fields: int) -> None:
    answer, counts = given(b"X-Made: 1\r\n" * fields)
    assert isinstance(answer, StoredAnswer)
    assert (answer.status, answer.body) == (201, b"made")
    assert counts["replayed"] == 1


@pytest.mark.parametrize(
    "head",
    [
        b"no field",
        b"X: 1\r\n\r\nHTTP/1.1 200 OK\r\n",
        b"X: \0\r\n",
    ],
    ids=["damaged", "two heads", "NUL"],
)
def test_one_that_cannot_be_given_again_is_told_and_waits_for_nothing(head: bytes) -> None:
    answer, counts = given(head)
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.reason, answer.members) == (
        409,
        "idempotency_answer_not_kept",
        {"original_status": 201},
    )
    assert (counts["replayed"], counts["not_kept"]) == (0, 1)


@pytest.mark.parametrize("status", [-1, 0, 101, 401, 500, 1000])
@pytest.mark.parametrize("whole", [True, False])
def test_a_status_that_is_never_kept_makes_the_outcome_unknown(status: int, whole: bool) -> None:
    answer, counts = given(b"", status, whole=whole)
    assert isinstance(answer, Refusal)
    assert (answer.status, answer.reason) == (409, "idempotency_outcome_unknown")
    assert (counts["replayed"], counts["not_kept"], counts["unknown"]) == (0, 0, 1)

"""What the supervisor answers to a worker that has asked for a change."""

from typing import Any

import pytest

from gateway.ipc.channel import Reply
from gateway.supervisor.changes import Change
from gateway.supervisor.supervisor import answer

CALL = 7


async def made(change: Change | Exception) -> Change:
    if isinstance(change, Exception):
        raise change
    return change


async def test_a_worker_hears_what_came_of_a_change() -> None:
    sent: list[tuple[Any, ...]] = []
    await answer(made(Change(["a mistake"])), Reply(lambda *frame: sent.append(frame), CALL))
    ((_, number, _, body),) = sent
    assert (number, body["problems"], body["done"]) == (CALL, ["a mistake"], False)


async def test_a_worker_hears_of_a_defect_and_does_not_wait_for_an_answer_that_never_comes() -> None:
    sent: list[tuple[Any, ...]] = []
    with pytest.raises(RuntimeError):
        await answer(made(RuntimeError("a defect")), Reply(lambda *frame: sent.append(frame), CALL))
    ((_, number, _, body),) = sent
    assert (number, body) == (CALL, "RuntimeError: a defect")

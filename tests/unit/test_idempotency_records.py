"""What is made of a record that somebody else has, whatever stands in its row."""

import pytest

from gateway.journal.idempotency import Found, found

ROW: dict[str, object] = {
    "state": "finished",
    "content": b"c" * 32,
    "status": 201,
    "whole": 1,
    "head": b"X-A: 1\r\n",
    "body": b"made",
    "lease_left": -1.0,
}


def test_a_record_as_it_was_written() -> None:
    assert found(ROW) == Found("finished", b"c" * 32, 201, True, b"X-A: 1\r\n", b"made", -1.0)
    assert found({**ROW, "head": None, "body": None, "whole": 0}) == Found(
        "finished", b"c" * 32, 201, False, b"", b"", -1
    )


@pytest.mark.parametrize(("lease_left", "state"), [(5.0, "running"), (0.0, "unknown"), (-1.0, "unknown")])
def test_a_holder_whose_lease_has_ended_is_unknown(lease_left: float, state: str) -> None:
    assert found({**ROW, "state": "running", "content": None, "lease_left": lease_left}).state == state


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *(("state", "odd"), ("state", None), ("state", 7), ("state", b"finished")),
        *(("content", "text"), ("content", 7), ("status", "201"), ("status", None), ("status", 1.5)),
        *(("head", "text"), ("head", 7), ("body", "text"), ("body", 7), ("lease_left", "x"), ("lease_left", None)),
    ],
)
def test_what_cannot_have_been_written_here_is_an_unknown_outcome(column: str, value: object) -> None:
    assert found({**ROW, column: value}).state == "unknown"

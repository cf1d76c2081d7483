"""What is made of a record that somebody else has, whatever stands in its row."""

import pytest

from gateway.journal.idempotency import Count, Found, Totals, counts, found, totals

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


@pytest.mark.parametrize(
    ("changed", "counted"),
    [
        ({}, Count("pay", "finished", 2, 10, 7.0)),
        ({"route": b"\xff"}, Count("b'\\xff'", "finished", 2, 10, 7.0)),
        ({"bytes": -5}, Count("pay", "finished", 2, 0, 7.0)),
        ({"bytes": 1.5}, Count("pay", "finished", 2, 0, 7.0)),
        ({"oldest": 1e300}, Count("pay", "finished", 2, 10, 253_402_300_799.0)),
        ({"oldest": -1}, Count("pay", "finished", 2, 10, 0.0)),
        ({"oldest": "text"}, Count("pay", "finished", 2, 10, 0.0)),
    ],
)
def test_damaged_records_are_counted_with_what_can_be_told(changed: dict[str, object], counted: Count) -> None:
    row = {"route": "pay", "now_state": "finished", "records": 2, "bytes": 10, "oldest": 7.0} | changed
    operation = counts()
    next(operation)
    with pytest.raises(StopIteration) as ended:
        operation.send([row])
    assert ended.value.value == [counted]


@pytest.mark.parametrize("size", [1e300, "text", None, -1])
def test_sizes_that_make_no_sum_count_as_nothing(size: object) -> None:
    operation = totals()
    next(operation)
    with pytest.raises(StopIteration) as ended:
        operation.send([{"records": 2, "bytes": size}])
    assert ended.value.value == Totals(2, 0)
